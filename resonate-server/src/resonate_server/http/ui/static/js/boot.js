// What must not wait for modules: these run later, or not at all.

// The theme that was chosen last, before the first paint.
try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";
} catch {
  document.documentElement.dataset.theme = "auto";
}

// If a module fails to load, the page's code never runs. This script can report that.
{
  const PATIENCE = 10_000;

  const hasStarted = () => "started" in document.documentElement.dataset;

  const tell = (why) => {
    document.getElementById("status").dataset.state = "failed";
    document.getElementById("status-text").textContent = `This page did not load: ${why}. Reload it`;
  };

  const whenThere = (act) => (document.readyState === "loading" ? addEventListener("DOMContentLoaded", act) : act());
  const failed = (why) => hasStarted() || whenThere(() => tell(why));

  /** What failed to load; "a module" if the browser does not say which. */
  const missing = () => {
    const files = performance.getEntriesByType("resource").filter(({ name, responseStatus }) => name.endsWith(".js") && !(responseStatus < 400 && responseStatus > 0));
    return files.map(({ name, responseStatus }) => `${name.split("/").pop()} ${responseStatus ? `is answered with status ${responseStatus}` : "has not come"}`)[0];
  };

  addEventListener("error", ({ target, message, filename }) => {
    if (target instanceof HTMLScriptElement) failed(missing() ?? "a module is missing");
    else failed(`${message} (${filename.split("/").pop()})`);
  }, true);
  setTimeout(() => failed(missing() ?? `a module has not come within ${PATIENCE / 1000} s`), PATIENCE);
}
