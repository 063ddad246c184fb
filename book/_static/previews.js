// Beside a link within the book: what it leads to. Pages' previews are scripts of their own, since a file may read no other.
(() => {
  const pages = {}, waiting = {};
  window.keepPreviews = (page, previews) => {
    pages[page] = previews;
    (waiting[page] || []).forEach((resolve) => resolve());
  };
  const root = () => new URL(document.documentElement.dataset.content_root || "./", location.href);
  const load = (page) => new Promise((resolve) => {
    if (pages[page]) return resolve();
    if (waiting[page]) return waiting[page].push(resolve);
    waiting[page] = [resolve];
    const script = document.createElement("script");
    script.src = new URL(`previews/${page}.js`, root());
    script.onerror = () => window.keepPreviews(page, {});
    document.head.append(script);
  });

  let box, link, timer;
  const hide = () => {
    clearTimeout(timer);
    link?.removeAttribute("aria-describedby");
    box?.remove();
    box = link = undefined;
  };
  const place = () => {
    const at = link.getBoundingClientRect(), width = Math.min(512, innerWidth - 16);
    box.style.width = `${width}px`;
    box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - width - 8)) + scrollX}px`;
    const above = at.bottom + box.offsetHeight + 8 > innerHeight && at.top > box.offsetHeight + 8;
    box.style.top = `${(above ? at.top - box.offsetHeight - 6 : at.bottom + 6) + scrollY}px`;
  };
  const show = async (anchor) => {
    const url = new URL(anchor.href), base = root().href;
    if (!url.href.startsWith(base)) return;
    const page = url.href.slice(base.length).split(/[?#]/)[0].replace(/\.html$/, "");
    await load(page);
    const html = pages[page]?.[decodeURIComponent(url.hash.slice(1))];
    if (!html || link !== anchor) return;
    anchor.removeAttribute("title"); // the browser's own window would stand over this one
    box = document.createElement("div");
    box.className = "preview";
    box.id = "preview";
    box.role = "tooltip";
    box.innerHTML = html;
    for (const picture of box.querySelectorAll("img")) picture.src = new URL(picture.getAttribute("src"), url);
    box.addEventListener("pointerleave", () => { timer = setTimeout(hide, 200); });
    box.addEventListener("pointerenter", () => clearTimeout(timer));
    document.body.append(box);
    anchor.setAttribute("aria-describedby", "preview");
    place();
    if (window.MathJax?.typesetPromise) await MathJax.typesetPromise([box]);
    if (box) place();
  };
  const ask = (event) => {
    const anchor = event.target.closest?.("article a.reference.internal[href]");
    if (!anchor || anchor === link || anchor.closest(".chapter-map, .preview")) return;
    hide();
    link = anchor;
    timer = setTimeout(show, event.type === "focusin" ? 0 : 250, anchor);
  };
  const leave = (event) => {
    if (!link || event.target.closest?.("a") !== link) return;
    clearTimeout(timer);
    timer = setTimeout(hide, 200);
  };
  document.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse") ask(event); });
  document.addEventListener("pointerout", leave);
  document.addEventListener("focusin", ask);
  document.addEventListener("focusout", leave);
  document.addEventListener("click", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();
