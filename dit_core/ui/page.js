// The page's little JavaScript: what only a browser can do. Every function is called by an event of explore.py.
window.dit = (() => {
  const hints = /*HINTS*/ {};

  // One-line explanations on hover; elements may come late, so their titles are set whenever the page changes.
  const explain = () => {
    for (const [id, hint] of Object.entries(hints)) {
      const element = document.getElementById(id);
      if (element && element.title !== hint) element.title = hint;
    }
  };

  const paint = () => {
    const chosen = localStorage.getItem("dit-dark");
    if (chosen !== null) document.body.classList.toggle("dark", chosen === "1");
  };

  const watch = () => {
    paint();
    explain();
    new MutationObserver(explain).observe(document.body, { childList: true, subtree: true });
    new MutationObserver(repaint).observe(document.body, { attributeFilter: ["class"] });
  };
  // On a phone what is found is below the controls: asking goes there.
  addEventListener("click", (event) => {
    const asks = event.target.closest?.("#dit-ask, #dit-surprise, #dit-layers-read, #dit-lens-look");
    if (!asks || innerWidth > 760) return;
    const found = asks.closest("#dit-explore, .dit-page").querySelector("#dit-right, .dit-main");
    found.scrollIntoView({ behavior: "smooth" });
  });

  // Plotly itself, fetched once, when the first figure is drawn.
  let library;
  const plotly = () =>
    (library ??= new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), { src: "plotly/plotly.min.js", onerror: failed });
      script.onload = () => done(window.Plotly);
      document.head.append(script);
    }));

  // Light or dark, whoever changes it: every figure is drawn anew.
  const figures = new Set();
  const redraw = () => figures.forEach((draw) => draw());
  let wasDark;
  const repaint = () => {
    const dark = document.body.classList.contains("dark");
    if (dark !== wasDark) redraw();
    wasDark = dark;
  };

  const picture = (format, path) => ({
    name: "save as " + format.toUpperCase(),
    icon: { width: 24, height: 24, path },
    click: (place) => library.then((plotly) => plotly.downloadImage(place, { format, scale: 2, filename: "dit-explorer" })),
  });
  const modeBarButtons = [
    ["zoom2d", "resetScale2d"],
    [
      picture("png", "M4 19h16v2H4zM11 3h2v9h4l-5 5-5-5h4z"),
      picture("svg", "M4 4h4v4H4zM16 4h4v4h-4zM4 16h4v4H4zM16 16h4v4h-4zM8 5.5h8v1H8zM8 17.500h8v1H8zM5.500 8h1v8h-1zM17.500 8h1v8h-1z"),
    ],
  ];

  // A figure in words, for who does not see it: title, axes, what is drawn by name, and what stands in it.
  const inWords = (data, { title, xaxis, yaxis, annotations = [] }) => {
    const plain = (text) => new DOMParser().parseFromString((text ?? "").replaceAll("<br>", " "), "text/html").body.textContent.trim();
    const names = [...new Set(data.map((trace) => trace.name))].map(plain).filter(Boolean);
    const parts = [
      plain(title?.text),
      xaxis?.title?.text && "across: " + plain(xaxis.title.text),
      yaxis?.title?.text && "up: " + plain(yaxis.title.text),
      names.length && "shown: " + names.join(", "),
      ...annotations.map(({ text }) => plain(text)),
    ];
    return parts.filter(Boolean).join("; ").slice(0, 600) || "figure";
  };

  const say = (words) => {
    const note = document.createElement("div");
    note.className = "dit-toast";
    note.setAttribute("role", "status");
    note.textContent = words;
    document.body.append(note);
    setTimeout(() => note.remove(), 2500);
  };

  let turns = 0;
  let shown = 0;

  if (document.body) watch();
  else addEventListener("DOMContentLoaded", watch);

  return {
    dark() {
      const dark = !document.body.classList.contains("dark");
      localStorage.setItem("dit-dark", dark ? "1" : "0");
      document.body.classList.toggle("dark", dark);
    },

    // A figure of pieces.py: `props.value` holds it for light and for dark; `tell` gets the point that was clicked.
    figure(element, props, watch, tell) {
      const place = element.querySelector(".dit-figure");
      const draw = async () => {
        const Plotly = await plotly();
        if (!props.value || !place.isConnected) return;
        const { data, layout, config } = JSON.parse(props.value)[
          document.body.classList.contains("dark") ? "dark" : "light"
        ];
        const fresh = !place.classList.contains("js-plotly-plot");
        if (data.length) place.style.height = layout.height + "px"; // a sentence takes the place that is there
        place.setAttribute("role", "figure");
        place.setAttribute("aria-label", inWords(data, layout));
        await Plotly.react(place, data, { ...layout, height: undefined }, { ...config, modeBarButtons });
        if (!fresh) return;
        place.on("plotly_click", ({ points: [point] }) => tell({ x: point.x, y: point.y, data: point.customdata }));
        new ResizeObserver(() => place.offsetWidth && Plotly.Plots.resize(place)).observe(place);
      };
      figures.add(draw);
      watch("value", draw);
      draw();
    },

    go(path) {
      if (path) location.assign(path);
    },

    // Answers to two changes can come in the other order: `turn` numbers what is asked, and an older one is dropped.
    turn: () => String(++turns),

    address(numbered) {
      const [turn, query] = numbered.split("?");
      if (!query || Number(turn) < shown) return;
      shown = Number(turn);
      history.replaceState(null, "", "?" + query);
    },

    save(name, text) {
      if (!name) return say("There is nothing to save yet.");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    },

    async copy(text) {
      if (!text) return;
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // No clipboard for pages that are not served securely: the old way.
        const area = Object.assign(document.createElement("textarea"), { value: text });
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      say("Copied.");
    },
  };
})();
