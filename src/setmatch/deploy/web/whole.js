// Says so if the page was not received whole: its other scripts come last, after the model.
addEventListener("load", () => {
  if (typeof state !== "undefined") return;
  document.getElementById("engine").textContent = "not loaded";
  const problem = document.getElementById("problem");
  problem.textContent = "This page was not received whole: load it again";
  problem.hidden = false;
});
