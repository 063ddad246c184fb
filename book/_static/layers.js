// Story or record: which layer of a chapter is shown. ?layer=record in the address asks for one; the choice is remembered.
(() => {
  const layers = { story: "Story", record: "Record: code, outputs, evidence" };
  const kept = () => { try { return localStorage.getItem("layer"); } catch { return null; } };
  const keep = (layer) => { try { localStorage.setItem("layer", layer); } catch { /* a private window */ } };
  const asked = new URLSearchParams(location.search).get("layer");
  const start = [asked, kept(), "story"].find((layer) => layer in layers);
  document.documentElement.dataset.layer = start;

  const show = (layer) => {
    document.documentElement.dataset.layer = layer;
    for (const fold of document.querySelectorAll("div.cell > details.hide, details.record:not(.amiss)")) {
      fold.open = layer === "record";
    }
  };
  const choose = (layer) => {
    keep(layer);
    show(layer);
    const address = new URL(location);
    address.searchParams.set("layer", layer);
    try { history.replaceState(null, "", address); } catch { /* a file of one's own has no history */ }
  };
  document.addEventListener("DOMContentLoaded", () => {
    const map = document.querySelector(".chapter-map");
    if (!map) return;
    const choice = document.createElement("fieldset");
    choice.className = "layers";
    choice.innerHTML = "<legend>Show</legend>" + Object.entries(layers).map(([layer, words]) =>
      `<label><input type="radio" name="layer" value="${layer}" autocomplete="off"> ${words}</label>`).join("");
    choice.querySelector(`[value=${start}]`).checked = true;
    choice.addEventListener("change", (event) => choose(event.target.value));
    map.prepend(choice);
    if (start === "record") show(start);
  });
})();
