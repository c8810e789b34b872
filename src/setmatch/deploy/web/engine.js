// The worker with the model, on the best engine of this browser that passes the check.

const SERVE = "A page that is opened from a disk can read no files beside it. Serve its folder: "
  + "python -m http.server --directory FOLDER";
const ENGINES = { webgpu: "WebGPU", wasm: "WebAssembly" };

class Engine {
  #worker = null;
  #number = 0;
  #waiting = new Map();
  threads = 1;

  constructor(name) {
    this.name = name;
    const code = new Blob([$("worker").textContent], { type: "text/javascript" });
    this.#worker = new Worker(URL.createObjectURL(code));
    this.#worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.#waiting.get(data.number);
      this.#waiting.delete(data.number);
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.result);
    };
    this.#worker.onerror = (event) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message));
      this.#waiting.clear();
    };
  }

  // Sends a request and returns the worker's response, or throws its error.
  #ask(request) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(++this.#number, { resolve, reject });
      this.#worker.postMessage({ ...request, number: this.#number });
    });
  }

  // Starts the runtime with its files, and opens the model; it takes as many threads as it can.
  async open(model, [script, program]) {
    const providers = this.name === "webgpu" ? ["webgpu", "wasm"] : ["wasm"];
    const { threads } = await this.#ask({ kind: "open", facts, model, script, program, providers });
    this.threads = threads;
  }

  detect(image, asIs = false) {
    return this.#ask({ kind: "detect", image, asIs });
  }

  close() {
    this.#worker.terminate();
  }

  get description() {
    const threads = this.name === "wasm" && this.threads > 1 ? `, ${this.threads} threads` : "";
    return `${ENGINES[this.name]}${threads}`;
  }
}

// Downloads a file of the runtime from the first address that has it; the browser compares its hash.
async function download({ name, addresses, integrity }) {
  const problems = [];
  for (const address of addresses) {
    try {
      const response = await fetch(address, { integrity });
      if (response.ok) return await response.arrayBuffer();
      problems.push(`${address}: ${response.status}`);
    } catch (error) {
      problems.push(`${address}: ${error.message}`);
    }
  }
  throw new Error(`${name} of the runtime cannot be reached, is missing, or is not the file that this `
    + `page was made with (${problems.join("; ")})`);
}

function isBesidePage() {
  return facts.runtime.wasm.every(({ addresses }) => !addresses[0].startsWith("https:"));
}

// The engines to try, best first. `?engine=wasm` in the page's address chooses one.
async function engineNames() {
  const wanted = new URLSearchParams(location.search).get("engine");
  if (wanted in facts.runtime) return [wanted];
  if (!("webgpu" in facts.runtime)) return ["wasm"];
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const isSoftware = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  return adapter && !isSoftware ? ["webgpu", "wasm"] : ["wasm"];
}

// Opens the model; an engine that fails or predicts wrongly makes room for the next one.
async function bestEngine(model) {
  const problems = [];
  const names = await engineNames();
  for (const name of names) {
    const engine = new Engine(name);
    const isLast = name === names.at(-1);
    try {
      await engine.open(model, await Promise.all(facts.runtime[name].map(download)));
      const check = await checked(engine);
      if (check.isGood || isLast) return { engine, check, problems };
      problems.push(`${ENGINES[name]} is not used: ${check.text}`);
    } catch (error) {
      problems.push(`${ENGINES[name]} does not run: ${error.message}`);
    }
    engine.close();
  }
  if (location.protocol === "file:" && isBesidePage()) problems.push(SERVE);
  throw new Error(problems.join(". "));
}
