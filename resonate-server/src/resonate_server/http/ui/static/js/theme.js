// Apply the theme that was chosen last, before the first paint. Not a module, because modules run later.
try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";
} catch {
  document.documentElement.dataset.theme = "auto";
}
