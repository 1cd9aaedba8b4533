"use strict";
/* Switching between versions of an excerpt: all of them run in step, one is heard. Two ways of doing it:
   Mixed decodes all into memory and starts them on one clock (exact to the sample, fades of a few ms, wants data of the
   same origin); Elements runs <audio> elements together and mutes all but one (files beside a page opened from disk,
   which a script may play but not read). */
(() => {
  const FADE = 0.004;   // time constant of a switch, seconds
  const LEAD = 0.05;    // from the decision to start to the first sample
  const DRIFT = 0.04;   // seconds that elements may be apart
  const tuned = { context: null };

  function context() {
    tuned.context ??= new AudioContext({ latencyHint: "interactive" });
    return tuned.context;
  }

  async function bytesOf(url) {
    if (!url.startsWith("data:")) return (await fetch(url)).arrayBuffer();
    const text = atob(url.slice(url.indexOf(",") + 1));
    return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
  }

  /* play() promises to start; a pause that comes sooner breaks the promise, and nothing is wrong. */
  function unlessPaused(error) { if (error.name !== "AbortError") throw error; }

  class Mixed {
    static async open(urls) {
      const buffers = await Promise.all(urls.map(async (url) => context().decodeAudioData(await bytesOf(url))));
      return new Mixed(buffers);
    }
    constructor(buffers) {
      this.buffers = buffers;
      this.length = Math.min(...buffers.map((buffer) => buffer.duration));
      this.chosen = 0;
      this.playing = false;
      this.place = 0;
    }
    position() {
      if (!this.playing) return this.place;
      return Math.max(this.place, this.place + context().currentTime - this.began) % this.length;
    }
    play() {
      context().resume();
      this.began = context().currentTime + LEAD;
      this.voices = this.buffers.map((buffer, index) => {
        const source = new AudioBufferSourceNode(context(), { buffer, loop: true, loopEnd: this.length });
        const gain = new GainNode(context(), { gain: index === this.chosen ? 1 : 0 });
        source.connect(gain).connect(context().destination);
        source.start(this.began, this.place);
        return { source, gain };
      });
      this.playing = true;
    }
    pause() {
      this.place = this.position();
      this.voices.forEach(({ source, gain }) => { source.stop(); gain.disconnect(); });
      this.playing = false;
    }
    seek(seconds) {
      const playing = this.playing;
      if (playing) this.pause();
      this.place = Math.min(seconds, this.length - 0.01);
      if (playing) this.play();
    }
    choose(index) {
      this.chosen = index;
      if (!this.playing) return;
      this.voices.forEach(({ gain }, i) => gain.gain.setTargetAtTime(i === index ? 1 : 0, context().currentTime, FADE));
    }
  }

  class Elements {
    static async open(elements) {
      await Promise.all(elements.map((element) => new Promise((done, failed) => {
        if (element.readyState >= 3) return done();
        element.addEventListener("canplay", done, { once: true });
        element.addEventListener("error", failed, { once: true });
        element.preload = "auto";
        element.load();
      })));
      return new Elements(elements);
    }
    constructor(elements) {
      this.elements = elements;
      this.length = Math.min(...elements.map((element) => element.duration));
      this.chosen = 0;
      this.playing = false;
      this.choose(0);
      elements.forEach((element) => { element.loop = true; });
    }
    position() { return this.elements[this.chosen].currentTime; }
    align() {
      const now = this.position();
      this.elements.forEach((element) => {
        if (Math.abs(element.currentTime - now) > DRIFT) element.currentTime = now;
      });
    }
    play() {
      this.align();
      this.elements.forEach((element) => element.play().catch(unlessPaused));
      this.playing = true;
    }
    pause() {
      this.elements.forEach((element) => element.pause());
      this.playing = false;
      this.align();
    }
    seek(seconds) { this.elements.forEach((element) => { element.currentTime = seconds; }); }
    choose(index) {
      const now = this.position();
      const next = this.elements[index];
      if (Math.abs(next.currentTime - now) > DRIFT) next.currentTime = now;
      this.chosen = index;
      this.elements.forEach((element, i) => { element.muted = i !== index; });
    }
  }

  class Player {
    constructor(root) {
      this.root = root;
      this.elements = [...root.querySelectorAll("audio")];
      this.switches = [...root.querySelectorAll(".switch")];
      this.button = root.querySelector(".play");
      this.place = root.querySelector(".place");
      this.clock = root.querySelector(".clock");
      this.chosen = 0;
      root.querySelector(".transport").hidden = false;
      this.switches.forEach((button, index) => {
        button.hidden = false;
        button.addEventListener("click", (event) => { release(event); this.choose(index); });
      });
      this.button.addEventListener("click", (event) => { release(event); this.toggle(); });
      this.place.addEventListener("input", () => this.seek(Number(this.place.value)));
      root.addEventListener("pointerdown", () => makeCurrent(this));
      root.addEventListener("focusin", () => makeCurrent(this));
    }
    open() {
      const urls = this.elements.map((element) => element.getAttribute("src"));
      const readable = location.protocol !== "file:" || urls.every((url) => url.startsWith("data:"));
      this.opened ??= (readable ? Mixed.open(urls) : Elements.open(this.elements)).then((engine) => {
        engine.seek(Number(this.place.value));
        engine.choose(this.chosen);
        this.engine = engine;
        this.place.max = engine.length;
      });
      return this.opened;
    }
    async toggle() {
      makeCurrent(this);
      if (this.engine?.playing) return this.pause();
      this.button.textContent = "Loading";
      try {
        await this.open();
      } catch {
        this.button.textContent = "Cannot be played";
        return;
      }
      players.forEach((other) => other !== this && other.pause());
      if (!this.engine.playing) this.engine.play();
      this.button.textContent = "Pause";
      this.tick();
    }
    pause() {
      if (!this.engine?.playing) return;
      this.engine.pause();
      this.button.textContent = "Play";
      this.show();
    }
    seek(seconds) {
      this.engine?.seek(seconds);
      this.show(seconds);
    }
    choose(index) {
      if (index >= this.switches.length) return;
      makeCurrent(this);
      this.chosen = index;
      this.engine?.choose(index);
      this.switches.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    }
    show(seconds = this.engine.position()) {
      this.place.value = seconds;
      this.clock.textContent = `${seconds.toFixed(1)} of ${Number(this.place.max).toFixed(1)} s`;
    }
    tick() {
      if (!this.engine.playing) return;
      this.show();
      requestAnimationFrame(() => this.tick());
    }
  }

  /* A button that was clicked by mouse gives its focus away, so that the space bar plays; for those who walk by keyboard
     it stays, and space presses the button as everywhere. */
  function release(event) { if (event.detail > 0) event.currentTarget.blur(); }

  function makeCurrent(player) {
    current = player;
    players.forEach((other) => other.root.classList.toggle("current", other === player));
  }

  const players = [];
  let current = null;
  document.querySelectorAll(".player").forEach((root) => players.push(new Player(root)));
  current = players[0] ?? null;
  document.documentElement.classList.add("scripts");
  document.querySelectorAll(".scripted").forEach((element) => { element.hidden = false; });

  document.addEventListener("keydown", (event) => {
    if (!current || event.ctrlKey || event.altKey || event.metaKey) return;
    if (/^[1-9]$/.test(event.key)) {
      current.choose(Number(event.key) - 1);
      event.preventDefault();
    } else if (event.key === " " && !event.target.closest("button, summary, a, audio")) {
      if (!event.repeat) current.toggle();
      event.preventDefault();
    }
  });
})();
