// Boxes over the images of the page, and the slider that chooses the evaluation.
{
  const facts = JSON.parse(document.getElementById("marks").textContent);
  const slider = document.getElementById("evaluation");
  const nameOf = (index) => facts.names[index] ?? "a class that the model does not have";

  const rect = ([x, y, width, height, index, score], frame, isTruth) => {
    const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const [w, h] = [Number(frame.dataset.width) / 1000, Number(frame.dataset.height) / 1000];
    const place = { x: x * w, y: y * h, width: width * w, height: height * h };
    for (const [key, value] of Object.entries(place)) box.setAttribute(key, value.toFixed(1));
    box.setAttribute("stroke", facts.colors[index] ?? "#868e96");
    if (isTruth) box.setAttribute("stroke-dasharray", "4 3");
    else box.setAttribute("stroke-opacity", (0.25 + 0.75 * score / 100).toFixed(2));
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = isTruth ? nameOf(index) : `${nameOf(index)} ${(score / 100).toFixed(2)}`;
    box.append(title);
    return box;
  };

  const draw = (frame, objects, detections) => {
    const area = ([, , width, height]) => width * height;
    const larger = (one, other) => area(other) - area(one);
    frame.querySelector("svg").replaceChildren(
      ...[...objects].sort(larger).map((mark) => rect(mark, frame, Boolean(detections))),
      ...[...(detections ?? [])].sort(larger).map((mark) => rect(mark, frame, false)),
    );
    const best = (detections ?? []).slice(0, 3).map((mark) => `${nameOf(mark[4])} ${(mark[5] / 100).toFixed(2)}`);
    frame.nextElementSibling.textContent = detections
      ? `${objects.length} ${objects.length === 1 ? "object" : "objects"}; ${best.join(", ") || "nothing above 0.1"}`
      : [...new Set(objects.map((mark) => nameOf(mark[4])))].slice(0, 4).join(", ") || "no objects";
  };

  document.querySelectorAll("#batch .frame").forEach((frame, number) => draw(frame, facts.batch[number]));

  const show = () => {
    const { step, score, marks } = facts.evaluations[slider.value];
    const measured = score === null ? "" : `: ${facts.measure} ${(100 * score).toFixed(1)}`;
    document.querySelector("output[for=evaluation]").value = `after step ${step.toLocaleString("en")}${measured}`;
    document.querySelectorAll("#validation .frame").forEach((frame, number) =>
      draw(frame, facts.images[number], marks[number] ?? []));
  };

  if (slider) {
    // An evaluation that was chosen stays; who looks at the latest sees the next one, too.
    const chosen = facts.evaluations.findIndex(({ step }) => String(step) === kept.get("evaluation"));
    slider.value = chosen < 0 ? facts.evaluations.length - 1 : chosen;
    slider.addEventListener("input", () => {
      const isLatest = Number(slider.value) === facts.evaluations.length - 1;
      kept.set("evaluation", isLatest ? "" : facts.evaluations[slider.value].step);
      show();
    });
    show();
  }
}
