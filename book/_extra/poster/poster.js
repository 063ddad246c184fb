// The live figure of the front page. What is drawn is computed here, by formulas that the book proves, from fits that
// cmlib made (fits.js); tests/test_poster.py compares the values with cmlib's. A classic script, since a browser
// refuses to import modules from file://.
var poster = (() => {
  "use strict";
  const sum = values => values.reduce((total, value) => total + value, 0);

  // --- what the worst push does: E_m(beta) between two numbers, in units of the target's norm

  // total weight N = int rhohat of a fit, all of whose weights are positive
  const size = fit => sum(fit.weights.map((a, k) => a / fit.rates[k]));

  // L1 distance of two modes of area one whose rates have the ratio e^u (lem-mode)
  const apart = u => (u > 0 ? -2 * Math.exp(-u / Math.expm1(u)) * Math.expm1(-u) : 0);

  // the weights c = U of the largest network within beta: it maximises sum_k (x_k + d_k)^2 / (rate_k - beta) over
  // vectors |d| <= beta, so that d_k (s + longest - lasts_k) = lasts_k x_k, with the s > 0 for which |d| = beta
  function largest(fit, beta) {
    const x = fit.weights.map(Math.sqrt), lasts = fit.rates.map(rate => 1 / (rate - beta));
    const longest = Math.max(...lasts), slow = lasts.indexOf(longest);
    const push = s => x.map((v, k) => (lasts[k] * v) / (s + (longest - lasts[k])));
    let low = Math.log((longest * x[slow]) / beta), high = Math.log(Math.hypot(...x.map((v, k) => lasts[k] * v)) / beta);
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (Math.hypot(...push(Math.exp(middle))) > beta) low = middle;
      else high = middle;
    }
    return { push: push(Math.exp((low + high) / 2)), x, lasts };
  }

  // how far the worst push moves a plain network, exactly (prop-largest): |largest network| - |network|
  function growth(fit, beta) {
    if (beta >= Math.min(...fit.rates)) return Infinity;
    if (beta === 0) return 0;
    const { push, x, lasts } = largest(fit, beta);
    return sum(x.map((v, k) => lasts[k] * (push[k] * (2 * v + push[k]) + (v * v * beta) / fit.rates[k])));
  }

  // E_m(beta) of either network lies between least and most; both moves are zero at 0
  const between = (fit, norm, grown, moved) => ({
    least: Math.max(fit.error, size(fit) + grown - norm) / norm, // the largest network is at least so much larger
    most: (fit.error + moved) / norm,
  });
  const bounds = {
    plain(fit, norm, beta) {
      const moved = growth(fit, beta);
      return between(fit, norm, moved, moved);
    },
    cured(fit, norm, beta) {
      const N = size(fit), grown = 2 * Math.sqrt(N) * beta + beta * beta; // prop-sharp, 1
      return between(fit, norm, grown, grown + N * apart(beta)); // thm-cure
    },
  };

  // the beta at which least or most has come to 1, the error of a network that answers nothing
  function room(kind, which, fit, norm) {
    let low = Math.log(1e-14), high = Math.log(1e2);
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (bounds[kind](fit, norm, Math.exp(middle))[which] < 1) low = middle;
      else high = middle;
    }
    return Math.exp((low + high) / 2);
  }

  // a curse: from the narrowest width to m the room falls faster than 1 / sqrt(m), for certain
  function verdict(kind, target, m) {
    const narrow = target.fits[0], wide = target.fits.find(fit => fit.m === m);
    const withstands = [narrow, wide].map(fit => room(kind, "most", fit, target.norm));
    const breaks = room(kind, "least", wide, target.norm);
    return { curse: breaks < withstands[0] * Math.sqrt(narrow.m / m), withstands };
  }

  // --- words

  const digits = text => text.replace(/[-\d]/g, c => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
  function number(v) {
    if (v >= 1e-3 && v < 9999.5) return String(+v.toPrecision(2));
    const [mantissa, exponent] = v.toExponential(1).split("e");
    return `${+mantissa === 1 ? "" : `${+mantissa}\u00a0·\u00a0`}10${digits(String(+exponent))}`;
  }
  const percent = v => (v < 1e-8 ? `below ${number(1e-6)}\u00a0%` : `${number(100 * v)}\u00a0%`); // rounding beyond
  const share = v => (v < 1 ? percent(v) : `${number(v)}\u00a0×`);
  function range({ least, most }) {
    const [from, to] = [least, most].map(share);
    return least === Infinity ? "no limit" : from === to ? to : `${from} … ${to}`;
  }
  function off({ least, most }) {
    if (least === Infinity) return "without limit";
    if (least >= 1) return `by at least ${number(least)} times the target`;
    return most < 1 ? `by at most ${percent(most)} of the target` : "by about as much as the target";
  }

  // --- the picture

  const NS = "http://www.w3.org/2000/svg";
  const BOX = { left: 46, right: 352, top: 22, bottom: 212 }, SMALLEST = -10, LOWEST = -5, HIGHEST = 3;
  const atBeta = beta => BOX.left + ((Math.log10(beta) - SMALLEST) / -SMALLEST) * (BOX.right - BOX.left);
  const atError = error => {
    const height = (Math.log10(error) - LOWEST) / (HIGHEST - LOWEST);
    return BOX.bottom - Math.min(Math.max(height, -1), 2) * (BOX.bottom - BOX.top);
  };
  function put(parent, tag, attributes, text) {
    const element = parent.appendChild(document.createElementNS(NS, tag));
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function axes(svg) {
    const id = `inside-${svg.dataset.kind}`;
    const { left, right, top, bottom } = BOX;
    put(put(svg, "clipPath", { id }), "rect", { x: left, y: top, width: right - left, height: bottom - top });
    for (let k = SMALLEST; k <= 0; k += 2) {
      const x = atBeta(10 ** k);
      put(svg, "path", { d: `M${x} ${top}V${bottom}`, class: "grid" });
      put(svg, "text", { x, y: bottom + 15, class: "tick" }, k ? `10${digits(String(k))}` : "1");
    }
    for (let k = -4; k < HIGHEST; k += 2) {
      const y = atError(10 ** k);
      put(svg, "path", { d: `M${left} ${y}H${right}`, class: k ? "grid" : "nothing" });
      put(svg, "text", { x: left - 5, y: y + 4, class: "tick end" }, k > 0 ? "100 ×" : `${number(10 ** (k + 2))} %`);
    }
    put(svg, "text", { x: (left + right) / 2, y: bottom + 31, class: "tick" }, "push of the weights, up to β");
    put(svg, "text", { x: left + 4, y: atError(1) - 4, class: "note" }, "no better than answering nothing");
    return put(svg, "g", {});
  }

  const line = points => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;

  function draw(svg, layer, target, m, beta) {
    const kind = svg.dataset.kind, inside = `url(#inside-${kind})`, taken = [];
    layer.textContent = "";
    // the chosen width last, above the others, but its label first
    const widths = [...target.fits].sort((a, b) => (a.m === m) - (b.m === m));
    for (const fit of widths) {
      const chosen = fit.m === m, end = kind === "plain" ? Math.min(...fit.rates) : Infinity;
      const radii = Array.from({ length: 101 }, (_, i) => 10 ** (SMALLEST * (1 - i / 100))).filter(b => b < end);
      for (let i = 1; i < 80 && end < 1; i++) radii.push(end * (1 - 2 ** (-i / 2)));
      radii.sort((a, b) => a - b);
      const errors = radii.map(b => bounds[kind](fit, target.norm, b));
      const curve = which => radii.map((b, i) => [atBeta(b), atError(errors[i][which])]);
      const most = curve("most");
      if (chosen) {
        const band = line([...most, ...curve("least").reverse()]);
        put(layer, "path", { d: `${band}Z`, class: "band", "clip-path": inside });
      }
      put(layer, "path", { d: line(most), class: chosen ? "curve chosen" : "curve", "clip-path": inside });
    }
    for (const fit of widths.reverse()) {
      // where a plain curve leaves the plot, and where a cured one enters it
      const plain = kind === "plain", start = atError(bounds.cured(fit, target.norm, 10 ** SMALLEST).most);
      const at = plain ? atBeta(Math.min(...fit.rates)) : start;
      if (at > (plain ? BOX.right : BOX.bottom) || at < (plain ? BOX.left : BOX.top)) continue;
      if (taken.some(other => Math.abs(other - at) < (plain ? 15 : 11))) continue;
      taken.push(at);
      const place = plain ? { x: at, y: BOX.top - 6 } : { x: BOX.left + 4, y: at - 4 };
      const word = fit.m === m ? `m = ${fit.m}` : fit.m;
      put(layer, "text", { ...place, class: `label ${plain ? "" : "start"} ${fit.m === m ? "chosen" : ""}` }, word);
    }
    const x = atBeta(beta), error = bounds[kind](target.fits.find(fit => fit.m === m), target.norm, beta).most;
    const y = Math.min(Math.max(atError(error), BOX.top), BOX.bottom);
    put(layer, "path", { d: `M${x} ${BOX.top}V${BOX.bottom}`, class: "now" });
    put(layer, "circle", { cx: x, cy: y, r: 8, class: "grip" });
    const left = x > (BOX.left + BOX.right) / 2, beside = { x: x + (left ? -6 : 6), class: `note ${left ? "end" : ""}` };
    put(layer, "text", { ...beside, y: BOX.bottom - 6 }, "drag me");
    if (error === Infinity) put(layer, "text", { ...beside, y: BOX.top + 20 }, "infinite");
  }

  // --- the page

  function start(figure) {
    const find = name => figure.querySelector(`[name=${name}]`);
    const exponents = Object.keys(posterFits).filter(name => name.startsWith("power ")).map(name => name.slice(6));
    const widths = posterFits.exponential.fits.map(fit => fit.m).slice(1);
    const panels = [...figure.querySelectorAll("svg")].map(svg => ({ svg, layer: axes(svg) }));
    find("exponent").max = exponents.length - 1;
    find("width").max = widths.length - 1;

    function show() {
      const power = figure.querySelector("[name=kernel]:checked").value === "power";
      const p = exponents[find("exponent").value], m = widths[find("width").value];
      const beta = 10 ** (find("beta").value / 20), target = posterFits[power ? `power ${p}` : "exponential"];
      find("exponent").disabled = !power;
      for (const [name, text] of [["exponent", p], ["width", String(m)], ["beta", number(beta)]]) {
        find(name).setAttribute("aria-valuetext", text);
        find(name).closest("label").querySelector("output").textContent = text;
      }
      const found = {}, fit = target.fits.find(one => one.m === m), narrow = target.fits[0].m;
      for (const { svg, layer } of panels) {
        const kind = svg.dataset.kind, { curse, withstands } = verdict(kind, target, m);
        draw(svg, layer, target, m, beta);
        found[kind] = off(bounds[kind](fit, target.norm, beta));
        const said = figure.querySelector(`.says-${kind}`);
        const words = `; certain to withstand pushes up to ${number(withstands[0])} at width ${narrow}, ` +
          `${number(withstands[1])} at width ${m}`;
        if (said.querySelector("span").textContent !== words) { // else nothing is to be read aloud
          said.querySelector("b").textContent = curse ? "curse" : "no curse";
          said.querySelector("b").className = curse ? "curse" : "";
          said.querySelector("span").textContent = words;
        }
        svg.setAttribute("aria-label",
          `Error against size of the push, ${kind} networks of width ${narrow}, ${widths.join(", ")}: ${said.textContent}`);
      }
      figure.querySelector("[role=status]").textContent =
        `Push all weights in the worst way, by up to β = ${number(beta)}: a plain network of width ${m} is off ${found.plain}, ` +
        `a cured one ${found.cured}.`;
      figure.querySelector("tbody").innerHTML = target.fits.map(each => {
        const cells = Object.keys(bounds).map(kind => range(bounds[kind](each, target.norm, beta)));
        const rest = [share(each.error / target.norm), ...cells, number(Math.min(...each.rates))];
        return `<tr><th scope="row">${each.m}</th>${rest.map(text => `<td>${text}</td>`).join("")}</tr>`;
      }).join("");
    }

    figure.addEventListener("input", show);
    for (const { svg } of panels) {
      const drag = event => {
        const { x } = new DOMPoint(event.clientX, 0).matrixTransform(svg.getScreenCTM().inverse());
        const exponent = SMALLEST * (1 - (x - BOX.left) / (BOX.right - BOX.left));
        find("beta").value = Math.round(20 * Math.min(Math.max(exponent, SMALLEST), 0));
        show();
      };
      svg.addEventListener("pointerdown", event => {
        svg.setPointerCapture(event.pointerId);
        drag(event);
      });
      svg.addEventListener("pointermove", event => svg.hasPointerCapture(event.pointerId) && drag(event));
    }
    window.addEventListener("pageshow", show); // some browsers keep where the sliders were
    figure.hidden = false;
    show();
  }

  return { bounds, growth, largest, room, verdict, start };
})();
