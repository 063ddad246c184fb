/* The text appears with its formulas set, so that no line moves under the reader's eyes; and what scrolls sideways, be
   it a formula, a picture or a table, is a stop of the tab key, and nothing else is. */
(() => {
  const page = document.documentElement.classList;
  const shown = () => page.remove("setting");
  page.add("setting");
  setTimeout(shown, 5000); // at the latest
  document.addEventListener("DOMContentLoaded", () => {
    const scrolls = ".picture, .movable-picture, .pst-scrollable-table-container, div.math, mjx-container[display]";
    const sizes = new ResizeObserver((changed) => changed.forEach(({ target }) => {
      if (target.scrollWidth > target.clientWidth + 1) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }));
    const watch = () => document.querySelectorAll(scrolls).forEach((element) => sizes.observe(element));
    watch();
    const set = window.MathJax?.startup?.promise ?? Promise.resolve();
    set.then(watch).finally(shown); // by then MathJax has made its containers
  });
})();
