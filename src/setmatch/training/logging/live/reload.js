// Reload while the run goes on, but not under the hands of a reader.
{
  const opened = Date.now();
  let touched = 0;
  for (const name of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove", "input"])
    addEventListener(name, (event) => {
      if (name !== "pointermove" || event.buttons) touched = Date.now();
    }, { passive: true });
  setInterval(() => {
    const now = Date.now();
    if (now - opened >= 5000 && now - touched >= 5000 && !document.hidden) location.reload();
  }, 1000);
}
