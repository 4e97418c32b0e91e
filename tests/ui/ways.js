// The ways in which a page can send a request to a server other than its own. Each sends one request and resolves to
// what the page can see of the answer.

const PATIENCE = 10_000;

const first = (...outcomes) => Promise.race([...outcomes, new Promise((end) => setTimeout(end, PATIENCE, "no answer"))]);

/** Status and first bytes, because some answers never end. */
const seen = async (answer) => {
  try {
    const response = await answer;
    if (response.type === "opaque") return "";
    const { value } = (await response.body?.getReader().read()) ?? {};
    return `${response.status} ${new TextDecoder().decode(value)}`;
  } catch {
    return "";
  }
};

const added = (name, attributes) => {
  const element = Object.assign(document.createElement(name), attributes);
  document.body.append(element);
  return element;
};

const loaded = (name, attributes) =>
  new Promise((resolve) => {
    added(name, { ...attributes, onload: (event) => resolve(event.target), onerror: () => resolve(null) });
  });

const inside = (frame) => frame.contentDocument?.documentElement.innerText ?? "";

const heard = (source) =>
  new Promise((resolve) => {
    source.onopen = () => resolve("opened");
    source.onerror = () => resolve("");
  }).finally(() => source.close());

/** From a frame without an origin. */
const sandboxed = (url, options) =>
  new Promise((resolve) => {
    window.addEventListener("message", (event) => resolve(event.data), { once: true });
    const script = `fetch(${JSON.stringify(url)}, ${JSON.stringify(options)})
      .then((answer) => answer.text(), () => "").then((text) => parent.postMessage(text, "*"))`;
    added("iframe", { sandbox: "allow-scripts", srcdoc: `<script>${script.replaceAll("</", "<\\/")}</script>` });
  });

const reading = {
  fetch: (url) => seen(fetch(url)),
  "fetch without asking": (url) => seen(fetch(url, { mode: "no-cors" })),
  "fetch of a sandbox": (url) => sandboxed(url, { mode: "no-cors" }),
  events: (url) => heard(new EventSource(url)),
  socket: (url) => heard(new WebSocket(url.replace("http", "ws"))),
  image: async (url) => ((await loaded("img", { src: url })) ? "loaded" : ""),
  script: async (url) => ((await loaded("script", { src: url })) ? "loaded" : ""),
  frame: async (url) => inside(await loaded("iframe", { src: url })),
};

const writing = {
  "fetch of JSON": (url, body) =>
    seen(fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body })),
  "fetch of text": (url, body) => seen(fetch(url, { method: "POST", body })),
  "fetch without asking": (url, body) => seen(fetch(url, { method: "POST", mode: "no-cors", body })),
  "fetch of a sandbox": (url, body) => sandboxed(url, { method: "POST", mode: "no-cors", body }),
  beacon: (url, body) => (navigator.sendBeacon(url, body), ""),
  form: async (url, body) => {
    const frame = added("iframe", { name: `form${document.forms.length}` });
    const form = added("form", { action: url, method: "POST", enctype: "text/plain", target: frame.name });
        // The form sends name=value, which has to be valid JSON.
    form.append(Object.assign(document.createElement("input"), { name: `${body.slice(0, -1)}, "x": "`, value: '"}' }));
    const answered = new Promise((resolve) => (frame.onload = () => resolve(frame)));
    form.submit();
    return inside(await answered);
  },
};

/** Send the bodies one after the other; resolves to what was seen of each. */
const inTurn = async (way, url, bodies) => {
  const all = [];
  for (const body of bodies) all.push(await first(way(url, body)));
  return all;
};

/** Send all `bodies` in every way, or plain requests if there are none; resolves to what was seen, by way. */
window.tryEverything = async (url, bodies) => {
  const ways = Object.entries(bodies.length ? writing : reading);
  const seen = ways.map(async ([name, way]) => [name, await inTurn(way, url, bodies.length ? bodies : [null])]);
  return Object.fromEntries(await Promise.all(seen));
};
