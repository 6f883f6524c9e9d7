const samples = readAll("samples");
function choose(all, want) {
  const words = want.text.toLowerCase();
  const groups = new Map();
  let count = 0;
  for (const sample of all) {
    if (want.benchmark && sample.benchmark !== want.benchmark) continue;
    if (want.task && sample.task !== want.task) continue;
    if (want.prompt && sample.id.slice(0, sample.id.lastIndexOf("-")) !== want.prompt) continue;
    if (words && !(sample.prompt + "\n" + (sample.asked ?? "") + "\n" + sample.id).toLowerCase().includes(words)) continue;
    const said = sample.said.filter(entry => !want.dimension || entry.dimension === want.dimension);
    const lacking = (sample.lacking ?? []).filter(name => !want.dimension || name === want.dimension);
    if (want.dimension && !said.length && !lacking.length) continue;
    const judged = said.filter(entry => entry.right !== undefined);
    if (want.verdict === "wrong" && !judged.some(entry => !entry.right)) continue;
    if (want.verdict === "right" && !(judged.length && judged.every(entry => entry.right))) continue;
    if (want.verdict === "missing" && !lacking.length) continue;
    const key = sample.benchmark + "/" + sample.prompt + "/" + sample.id.slice(0, sample.id.lastIndexOf("-"));
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push({ sample, said, lacking });
    count += 1;
  }
  const found = [...groups.values()];
  const sign = { low: 1, high: -1 }[want.order];
  const mean = group => {
    const scores = group.flatMap(({ said }) => said.map(entry => entry.score));
    return scores.length ? scores.reduce((a, b) => a + b, 0) / scores.length : Infinity * (sign ?? 1);
  };
  if (sign) found.sort((a, b) => sign * (mean(a) - mean(b)));
  return [found, count];
}
function draw(group) {
  const first = group[0].sample;
  const ask = make("article", undefined, "ask");
  const title = make("div", undefined, "t");
  const words = make("div");
  words.append(make("b", first.prompt));
  if (first.asked) words.append(make("p", "rewritten: " + first.asked, "dim"));
  const facts = make("div", undefined, "facts");
  facts.append(make("span", first.task.replaceAll("_", " ")));
  const link = make("a", first.id.slice(0, first.id.lastIndexOf("-")));
  link.href = "#" + new URLSearchParams({ prompt: link.textContent });
  facts.append(link);
  const judged = group.flatMap(({ said }) => said).filter(entry => entry.right !== undefined);
  if (judged.length) facts.append(make("span", `${judged.filter(entry => entry.right).length} of ${judged.length} right`));
  title.append(words, facts);
  const tiles = make("div", undefined, "row");
  for (const { sample, said, lacking } of group) {
    const card = make("figure", undefined, "sample");
    card.dataset.id = sample.id;
    const judged = said.filter(entry => entry.right !== undefined);
    if (judged.length) card.classList.add(judged.every(entry => entry.right) ? "right" : "wrong");
    const caption = make("figcaption");
    for (const entry of said) caption.append(saying(entry));
    for (const name of lacking) caption.append(make("p", name.replaceAll("_", " ") + ": not judged", "dim"));
    caption.append(make("p", `${sample.id.slice(sample.id.lastIndexOf("-") + 1)}, seed ${sample.seed}`, "seed"));
    card.append(frame(sample, said), caption);
    tiles.append(card);
  }
  ask.append(title, tiles);
  return ask;
}
listing({
  form: document.getElementById("browser"), place: document.getElementById("asks"), count: document.getElementById("count"),
  items: samples, choose, draw, batch: 16, one: "1 sample", many: "# samples",
});
