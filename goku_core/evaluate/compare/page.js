const names = JSON.parse(document.getElementById("names").textContent)[0];
function choose(all, want) {
  const words = want.text.toLowerCase();
  const found = all.filter(pair => {
    if (want.task && pair.task !== want.task) return false;
    if (words && !(pair.prompt + "\n" + pair.id).toLowerCase().includes(words)) return false;
    const turned = Object.entries(pair.turned ?? {}).filter(([name]) => !want.dimension || name === want.dimension);
    if (want.turned && !turned.some(([, way]) => want.turned === "any" || way === want.turned)) return false;
    return !want.dimension || pair.sides.some(side => side.said.some(entry => entry.dimension === want.dimension));
  });
  return [found.map(pair => ({ pair, dimension: want.dimension })), found.length];
}
function draw({ pair, dimension }) {
  const ask = make("article", undefined, "ask");
  const title = make("div", undefined, "t");
  title.append(make("b", pair.prompt));
  const facts = make("div", undefined, "facts");
  facts.append(make("span", pair.task.replaceAll("_", " ")), make("span", pair.id));
  title.append(facts);
  const row = make("div", undefined, "pair");
  for (const [place, side] of pair.sides.entries()) {
    const said = side.said.filter(entry => !dimension || entry.dimension === dimension);
    const card = make("figure", undefined, "sample");
    card.dataset.id = pair.id;
    const judged = said.filter(entry => entry.right !== undefined);
    if (judged.length) card.classList.add(judged.every(entry => entry.right) ? "right" : "wrong");
    const caption = make("figcaption");
    for (const entry of said) caption.append(saying(entry));
    if (side.asked) caption.append(make("p", "rewritten: " + side.asked, "dim"));
    caption.append(make("p", "seed " + side.seed, "seed"));
    card.append(make("p", names[place], "who"), frame(side, said), caption);
    row.append(card);
  }
  ask.append(title, row);
  for (const [name, way] of Object.entries(pair.turned ?? {})) {
    ask.append(make("p", name.replaceAll("_", " ") + " got " + way, "mark " + (way === "worse" ? "bad" : "good")));
  }
  return ask;
}
listing({
  form: document.getElementById("browser"), place: document.getElementById("asks"), count: document.getElementById("count"),
  items: readAll("samples"), choose, draw, batch: 16, one: "1 sample", many: "# samples",
});
