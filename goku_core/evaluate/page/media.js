// One sample as people look at it: the picture or clip, the boxes a judge drew, what was said. Shared by both pages.
// Text reaches the page through textContent alone: prompts, answers and reasons are data.
function make(tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}
const SVG = "http://www.w3.org/2000/svg";
function drawn(tag, values) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
  return node;
}
// A browser plays some 75 clips at a time: those out of sight give their place back.
const near = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      if (!target.src) target.src = target.dataset.src;
      target.play().catch(() => target.setAttribute("controls", ""));
    } else if (target.src) {
      target.pause();
      target.removeAttribute("src");
      target.load();
    }
  }
}, { rootMargin: "200px" });
function frame(sample, said) {
  const box = make("div", undefined, "frame");
  if (!sample.file) {
    box.append(make("p", "no sample in the folder", "empty"));
    return box;
  }
  const cover = drawn("svg", { class: "seen", preserveAspectRatio: "none" });
  const size = (width, height) => {
    if (!width || !height) return;
    box.style.aspectRatio = width + " / " + height;
    cover.setAttribute("viewBox", `0 0 ${width} ${height}`);
    for (const name of box.querySelectorAll(".tag")) {  // above its box, and within the picture
      const { left, top, right } = name.dataset;
      if (left > width / 2) name.style.right = (100 - 100 * right / width) + "%";
      else name.style.left = (100 * left / width) + "%";
      name.style.top = (100 * top / height) + "%";
      if (top > height / 8) name.style.transform = "translateY(-100%)";
    }
  };
  let medium;
  if (sample.tile) {
    const [left, top, width, height, wide, tall] = sample.tile;
    medium = drawn("svg", { class: "medium", viewBox: `${left} ${top} ${width} ${height}` });
    medium.append(drawn("image", { href: sample.file, width: wide, height: tall }));
    size(width, height);
  } else if (sample.moving) {
    medium = Object.assign(make("video", undefined, "medium"), { muted: true, loop: true, playsInline: true, preload: "metadata" });
    medium.dataset.src = sample.file;
    medium.addEventListener("loadedmetadata", () => size(medium.videoWidth, medium.videoHeight));
    near.observe(medium);
  } else {
    medium = Object.assign(make("img", undefined, "medium"), { loading: "lazy", alt: sample.prompt });
    medium.addEventListener("load", () => size(medium.naturalWidth, medium.naturalHeight));
    medium.src = sample.file;
  }
  box.append(medium, cover);
  for (const entry of said) {
    for (const { at, name, frame } of entry.boxes ?? []) {
      const [left, top, right, bottom] = at;
      const values = { class: "box", x: left, y: top, width: right - left, height: bottom - top };
      cover.append(drawn("rect", values));
      const tag = make("span", frame === undefined ? name : `${name}, frame ${frame}`, "tag");
      Object.assign(tag.dataset, { left, top, right });
      box.append(tag);
    }
    if (entry.path) cover.append(drawn("polyline", { class: "path", points: entry.path.map(p => p.join(",")).join(" ") }));
  }
  if (sample.tile) size(sample.tile[2], sample.tile[3]);
  return box;
}
const shownScore = value => Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3);
function saying(entry) {
  const line = make("p", undefined, "said");
  const right = entry.right;
  if (right === undefined) line.append(make("b", shownScore(entry.score)), " ");
  else line.append(make("b", right ? "right" : "wrong", "mark " + (right ? "good" : "bad")), " ");
  line.append(make("span", entry.dimension.replaceAll("_", " "), "dim"));
  if (entry.by) line.append(make("span", " by " + entry.by, "dim"));
  if (entry.reason) line.append(make("span", ": " + entry.reason));
  if (entry.words) {
    const more = make("details");
    more.append(make("summary", entry.words.length === 1 ? "1 answer" : entry.words.length + " answers"));
    for (const words of entry.words) more.append(make("p", words));
    line.append(more);
  }
  return line;
}
function readAll(kind) {
  return [...document.querySelectorAll("script." + kind)].flatMap(chunk => JSON.parse(chunk.textContent));
}
// The choice is kept in the address (#task=colors&verdict=wrong), so that a view can be sent to somebody.
function asked() {
  const words = location.hash.slice(1);
  return new URLSearchParams(words.includes("=") ? words : "");
}
// Draws what fits `choose`, a batch at a time as the end comes into sight, so that thousands are no burden.
function listing({ form, place, count, items, choose, draw, batch, one, many }) {
  const names = [...form.elements].map(field => field.name).filter(Boolean);
  const end = document.createElement("div");
  place.after(end);
  let waiting = [];
  const more = () => {
    for (const item of waiting.splice(0, batch)) place.append(draw(item));
    watch.unobserve(end);
    if (waiting.length) watch.observe(end);
  };
  const watch = new IntersectionObserver(entries => { if (entries.some(e => e.isIntersecting)) more(); }, { rootMargin: "800px" });
  const show = () => {
    const want = Object.fromEntries(names.map(name => [name, form[name].value]));
    const [groups, samples] = choose(items, want);
    count.textContent = samples === 1 ? one : many.replace("#", samples.toLocaleString("en"));
    for (const clip of place.querySelectorAll("video")) near.unobserve(clip);
    place.replaceChildren();
    waiting = groups;
    more();
  };
  const read = () => {
    const words = asked();
    for (const name of names) form[name].value = words.get(name) ?? form[name].dataset.usual ?? "";
  };
  form.addEventListener("input", () => {
    show();
    const chosen = names.filter(name => form[name].value && form[name].value !== form[name].dataset.usual);
    history.replaceState(null, "", "#" + (new URLSearchParams(chosen.map(name => [name, form[name].value])).toString() || form.id));
  });
  window.addEventListener("hashchange", () => { if (asked().size) { read(); show(); form.scrollIntoView(); } });
  read();
  show();
  if (asked().size) form.scrollIntoView();
}
