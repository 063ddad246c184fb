/* Search by what a reader remembers: "Fig. 12b", "Theorem 3.9", "how do I test my own model".
   Sphinx drops numbers from a query and compares titles and index entries with it letter by letter. Here they are
   compared word by word, numbers included, and stand before what is found in the text. Part of language_data.js, which
   only the search page loads, between Sphinx's search and its index. */
{
  const SHORT = { fig: "figure", figs: "figure", thm: "theorem", lem: "lemma", def: "definition", tab: "table",
    prop: "proposition", cor: "corollary", rem: "remark", app: "appendix", sec: "section" };
  const ASKING = new Set(("a an and any are as at be by can could did do does for from have how i if in into is it its " +
    "me my of on one or our own should tell that the there this to was we what when where which who why will with " +
    "would you your").split(" "));
  const NUMBER = /^((?:[a-z]\.)?\d+(?:\.\d+)*)([a-z]?)$/;
  const WORD = /(?:\b[a-z]\.)?\d+(?:\.\d+)*[a-z]?(?![\p{L}\p{N}])|\p{L}[\p{L}\p{N}]*/gu;
  const LEAST = 0.7; // part of the query that a title has to hold

  const stemmer = new Stemmer();
  const wordsOf = (text) => [...new Set((text.toLowerCase().match(WORD) || [])
    .map((word) => SHORT[word] || word)
    .filter((word) => !ASKING.has(word))
    .map((word) => (NUMBER.test(word) ? word : stemmer.stemWord(word))))];

  // "12b" is also to be found under Figure 12, and Figure 2 under "2a"
  const alike = (asked, found) => {
    if (asked === found) return 1;
    const [a, b] = [NUMBER.exec(asked), NUMBER.exec(found)];
    return a && b && a[1] === b[1] && (!a[2] || !b[2]) ? 0.8 : 0;
  };

  const plain = (title) => title.replace(/^ \((.*)\)$/, "$1"); // a theorem's name stands in brackets
  let headings = null; // [words, file, id, what to show] of titles and index entries, made with the first search
  let weights = null; // word -> the more, the fewer headings have it
  const prepare = ({ titles, alltitles, indexentries }) => {
    headings = [];
    const shown = new Map(); // a place -> the title of its section
    for (const [title, places] of Object.entries(alltitles))
      for (const [file, id] of places) {
        shown.set(file + "#" + (id || ""), id ? `${titles[file]} > ${plain(title)}` : titles[file]);
        headings.push([wordsOf(title), file, id || ""]);
      }
    for (const [entry, places] of Object.entries(indexentries))
      for (const [file, id] of places) headings.push([wordsOf(entry), file, id]);
    for (const heading of headings) {
      const [, file, id] = heading;
      heading.push(shown.get(file + "#" + id) || `${titles[file]} > ${id}`);
    }
    const counts = new Map();
    headings.forEach(([words]) => words.forEach((word) => counts.set(word, (counts.get(word) || 0) + 1)));
    weights = (word) => Math.log(1 + headings.length / (counts.get(word) || 1));
  };

  const perform = Search._performSearch;
  Search._performSearch = (query, ...terms) => {
    const { docnames, filenames } = Search._index;
    if (headings === null) prepare(Search._index);
    const asked = wordsOf(query), found = new Map();
    const sum = (words, part) => words.reduce((total, word) => total + weights(word) * part(word), 0);
    const inTexts = perform(query, ...terms);
    const searched = new Set(inTexts.map(([docname]) => docname));
    for (const [words, file, id, title] of asked.length ? headings : []) {
      const covered = sum(asked, (w) => Math.max(0, ...words.map((o) => alike(w, o)))) / sum(asked, () => 1);
      if (covered < LEAST) continue;
      const own = sum(words, (w) => Math.max(0, ...asked.map((o) => alike(o, w)))) / sum(words, () => 1);
      const score = 100 * covered * covered * (0.6 + 0.4 * own) + searched.has(docnames[file]) + !id; // a whole page first
      const [docname, anchor] = [docnames[file], id && "#" + id];
      if (!found.has(docname + anchor) || found.get(docname + anchor)[4] < score)
        found.set(docname + anchor, [docname, title, anchor, null, score, filenames[file]]);
    }
    const rest = inTexts.filter(([docname, , anchor]) => !found.has(docname + anchor));
    return [...rest, ...[...found.values()].sort(_orderResultsByScoreThenName)]; // the best last, as Sphinx has it
  };

  // a page opened from a folder may not read other pages, which the summaries of the results would
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
