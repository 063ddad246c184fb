/* The text appears with its formulas set, so that no line moves under the reader's eyes; and what scrolls sideways, be
   it a formula, a picture or a table, is a stop of the tab key, and nothing else is. */
(() => {
  // the theme asks the system for its colours only when the page is there: too late, as pictures are fetched by then
  const { dataset } = document.documentElement;
  if (dataset.mode === "auto") dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

  const page = document.documentElement.classList;
  const shown = () => page.remove("setting");
  page.add("setting");
  setTimeout(shown, 5000); // at the latest
  document.addEventListener("DOMContentLoaded", () => {
    const scrolls = ".picture, .movable-picture, .pst-scrollable-table-container, .math, mjx-container[display]";
    const wide = (element) => { // a formula in a line has words for the ear beside it, and letters that lean out
      const seen = element.matches("span.math") && element.querySelector("mjx-math");
      return seen ? seen.offsetWidth > element.clientWidth + 5 : element.scrollWidth > element.clientWidth + 1;
    };
    const sizes = new ResizeObserver((changed) => changed.forEach(({ target }) => {
      if (wide(target)) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }));
    const watch = () => document.querySelectorAll(scrolls).forEach((element) => sizes.observe(element));
    watch();
    const set = window.MathJax?.startup?.promise ?? Promise.resolve();
    set.then(watch).finally(shown); // by then MathJax has made its containers
  });
})();
