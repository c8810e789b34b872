// Smoothing and the axis of the charts. Choices are kept while the page reloads itself.
const kept = {
  get: (name) => { try { return sessionStorage.getItem(name); } catch { return null; } },
  set: (name, value) => { try { sessionStorage.setItem(name, value); } catch { /* not allowed */ } },
};

{
  const slider = document.getElementById("smoothing"), axis = document.getElementById("axis");

  // The axes are linear, so that the mean of heights is the height of the mean. Means start
  // unbiased: the first one is the first point.
  const smoothed = (path, weight) => {
    let sum = 0, norm = 0;
    return path.replace(/([ML])([\d.e+-]+) ([\d.e+-]+)/g, (_, command, x, y) => {
      sum = weight * sum + (1 - weight) * Number(y);
      norm = weight * norm + (1 - weight);
      return `${command}${x} ${(sum / norm).toFixed(1)}`;
    });
  };

  const smooth = () => {
    const weight = slider.value / 100;
    document.querySelector("output[for=smoothing]").value = weight.toFixed(2);
    for (const raw of document.querySelectorAll(".charts .curve.raw")) raw.remove();
    for (const curve of document.querySelectorAll(".charts .curve")) {
      curve.dataset.path ??= curve.getAttribute("d");
      curve.setAttribute("d", weight ? smoothed(curve.dataset.path, weight) : curve.dataset.path);
      if (!weight) continue;
      const raw = curve.cloneNode(true);
      raw.setAttribute("d", curve.dataset.path);
      raw.classList.add("raw");
      curve.before(raw);
    }
  };

  const choose = () => {
    for (const charts of document.querySelectorAll(".charts[data-axis]"))
      charts.hidden = charts.dataset.axis !== axis.value;
  };

  slider.value = kept.get("smoothing") ?? 0;
  slider.addEventListener("input", () => { kept.set("smoothing", slider.value); smooth(); });
  smooth();
  if (axis) {
    axis.value = kept.get("axis") === "time" ? "time" : "step";
    axis.addEventListener("change", () => { kept.set("axis", axis.value); choose(); });
    choose();
  }
  document.querySelector(".controls").hidden = false;
}
