// Before the first paint: the theme that was chosen here last. A script of its own, because modules come later.
try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";
} catch {
  document.documentElement.dataset.theme = "auto";
}
