"use strict";
(() => {
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

  // Tokens: place and id of the token under the pointer.
  each(".tokens", (box) => {
    const readout = box.querySelector(".readout");
    let last = null;
    const show = (event) => {
      const token = event.target.closest(".strip .t");
      if (token === last) return;
      if (last) last.classList.remove("at");
      last = token;
      if (token) token.classList.add("at");
      readout.textContent = token ? `${token.title} · ${token.textContent}` : readout.dataset.hint;
    };
    box.addEventListener("pointerover", show);
    box.addEventListener("click", show);
  });

  // Token grid: the cell under the pointer.
  each(".lens", (lens) => {
    const spot = lens.querySelector(".spot");
    if (!spot) return;
    const out = lens.parentElement.querySelector(".cell");
    const { rows, columns, cell } = lens.dataset;
    lens.addEventListener("pointermove", (event) => {
      const box = lens.getBoundingClientRect();
      const column = Math.min(columns - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * columns)));
      const row = Math.min(rows - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * rows)));
      spot.setAttribute("x", column);
      spot.setAttribute("y", row);
      out.textContent = cell.replace("ROW", row + 1).replace("COLUMN", column + 1);
    });
    lens.addEventListener("pointerleave", () => {
      spot.setAttribute("x", -2);
      out.textContent = "";
    });
  });

  // Curves: the values nearest to the pointer.
  each(".chart svg", (svg) => {
    const curves = JSON.parse(svg.dataset.curves);
    const figure = svg.closest("figure");
    const hair = svg.querySelector(".hair");
    const keys = [...figure.querySelectorAll(".key b")];
    const rest = keys.map((key) => key.textContent);
    const at = figure.querySelector(".at");
    svg.addEventListener("pointermove", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let step = "";
      curves.forEach(([, points], index) => {
        const near = points.reduce((a, b) => (Math.abs(b[0] - point.x) < Math.abs(a[0] - point.x) ? b : a));
        if (index === 0) {
          hair.setAttribute("x1", near[0]);
          hair.setAttribute("x2", near[0]);
          step = near[1];
        }
        keys[index].textContent = near[2];
      });
      at.textContent = `${svg.dataset.step} ${step}`;
    });
    svg.addEventListener("pointerleave", () => {
      hair.setAttribute("x1", -9);
      hair.setAttribute("x2", -9);
      keys.forEach((key, index) => { key.textContent = rest[index]; });
      at.textContent = "";
    });
  });

  // Samples: by text.
  each(".find", (find) => {
    const samples = [...document.querySelectorAll(".sample")];
    const texts = samples.map((sample) => sample.textContent.toLowerCase());
    const found = document.querySelector(".found");
    find.addEventListener("input", () => {
      const wanted = find.value.trim().toLowerCase();
      let count = 0;
      samples.forEach((sample, index) => {
        sample.hidden = !texts[index].includes(wanted);
        count += sample.hidden ? 0 : 1;
      });
      found.textContent = wanted ? `${count} / ${samples.length}` : "";
    });
  });

  // Predictions: by right or wrong, and by kind; the first few until all are asked for.
  each(".filters", (filters) => {
    const cards = [...document.querySelectorAll(".guess")];
    const toggles = [...filters.querySelectorAll(".toggle")];
    const pick = filters.querySelector(".pick");
    const found = filters.querySelector(".found");
    const more = document.querySelector(".more");
    const few = 24;
    let state = "";
    let limit = few;
    const apply = () => {
      const fits = (card) => (!state || card.dataset.state === state) && (!pick.value || card.dataset.group === pick.value);
      let count = 0;
      cards.forEach((card) => {
        count += fits(card) ? 1 : 0;
        card.hidden = !fits(card) || count > limit;
      });
      found.textContent = `${count} / ${cards.length}`;
      more.hidden = count <= limit;
      more.querySelector("span").textContent = count;
      toggles.forEach((toggle) => toggle.setAttribute("aria-pressed", String(toggle.value === state)));
    };
    const restart = () => { limit = few; apply(); };
    toggles.forEach((toggle) => toggle.addEventListener("click", () => { state = toggle.value; restart(); }));
    pick.addEventListener("change", restart);
    more.addEventListener("click", () => { limit = Infinity; apply(); });
    addEventListener("beforeprint", () => { limit = Infinity; apply(); });
    apply();
  });
})();
