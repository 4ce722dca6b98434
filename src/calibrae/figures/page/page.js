// Unpacks plotly and lets it draw the plots that answer to the mouse; the pictures stay where anything fails.
(async () => {
  const packed = document.getElementById("plotly");
  const figures = [...document.querySelectorAll("figure")].filter((figure) => figure.querySelector("script.plot"));
  if (!packed || !figures.length || !("DecompressionStream" in window)) return;
  const bytes = Uint8Array.from(atob(packed.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  for (const figure of figures) {
    const picture = figure.querySelector("img");
    let described;
    const place = document.createElement("div");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", picture.alt);
    picture.after(place);
    const draw = () => {
      const style = getComputedStyle(document.documentElement);
      const axis = { gridcolor: style.getPropertyValue("--line"), zeroline: false };
      const layout = { ...described.layout, height: described.height, margin: { t: 10, r: 10, b: 45, l: 55 } };
      for (const name of Object.keys(layout)) if (/^[xy]axis/.test(name)) layout[name] = { ...axis, ...layout[name] };
      layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
      layout.font = { color: style.getPropertyValue("--ink"), size: 12 };
      return window.Plotly.react(place, described.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    };
    try {
      described = JSON.parse(figure.querySelector("script.plot").textContent);
      await draw();
      picture.hidden = true;
      dark.addEventListener("change", draw);
    } catch (error) {
      place.remove();
    }
  }
})();
