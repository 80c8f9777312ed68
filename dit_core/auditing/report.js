// Draws the report's figures, in the theme that the reader's system has.
const dark = matchMedia("(prefers-color-scheme: dark)");
const draw = async () => {
  for (const box of document.querySelectorAll(".figure")) {
    const { data, layout, config } = JSON.parse(box.querySelector("script").textContent)[dark.matches ? "dark" : "light"];
    const place = box.querySelector(".plot") ?? box.appendChild(Object.assign(document.createElement("div"), { className: "plot" }));
    // Plotly takes the height of the place, not of the layout, where it is responsive, and fails where that is too low.
    place.style.height = Math.max(layout.height, 360) + "px";
    await Plotly.react(place, data, { ...layout, height: undefined }, config);
  }
};
dark.addEventListener("change", draw);
draw();
