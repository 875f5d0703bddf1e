"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const part = id => document.getElementById(id);
const chosen = name => document.querySelector(`input[name=${name}]:checked`);
const colours = data.classes.map(([name, hex]) => [name, [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16))]);

for (const [i, frame] of data.frames.entries()) {
  part("frame").add(new Option(frame.note ? `${frame.frame} (${frame.note})` : frame.frame, i));
}
for (const name of Object.keys(data.frames[0].views)) part("camera").add(new Option(name, name));

function layer(view, side) {
  if (side === "truth") return {name: view.truth ? "ground truth" : "no ground truth here", ...view.truth};
  if (side === "image") return {name: view.image ? "image" : "no image", about: ""};
  const sensors = chosen("sensors");
  const words = sensors.parentElement.textContent.trim();
  return {name: `prediction, ${words}`, ...view.predictions[sensors.value]};
}

function put(image, source) {
  if (source) image.src = source; else image.removeAttribute("src");
}

function draw() {
  const frame = data.frames[part("frame").value];
  const view = frame.views[part("camera").value];
  const [left, right] = chosen("pair").value.split(" ").map(side => layer(view, side));
  part("stack").style.aspectRatio = view.size.join(" / ");
  put(part("image"), view.image);
  for (const [side, what] of [["left", left], ["right", right]]) {
    put(part(side), what.labels);
    part(`${side}-tag`).textContent = what.name;
  }
  part("said").textContent = `Frame ${frame.frame}, ${part("camera").value}. `
    + [left, right].map(what => what.about && `${what.name}: ${what.about}.`).filter(Boolean).join(" ");
  part("image").alt = `Frame ${frame.frame}, camera ${part("camera").value}: ${left.name} on the left, ${right.name} on the right`;
  part("previous").disabled = part("frame").selectedIndex === 0;
  part("next").disabled = part("frame").selectedIndex === data.frames.length - 1;
  wipe();
}

function wipe() {
  const at = Number(part("slider").value);
  part("left").style.clipPath = `inset(0 ${100 - at}% 0 0)`;
  part("right").style.clipPath = `inset(0 0 0 ${at}%)`;
  part("wipe").style.left = `${at}%`;
  part("left-tag").hidden = at < 12;
  part("right-tag").hidden = at > 88;
  const [left, right] = ["left-tag", "right-tag"].map(id => part(id).textContent);
  part("slider").setAttribute("aria-valuetext", `${at} % ${left}, ${100 - at} % ${right}`);
}

function step(by) {
  part("frame").selectedIndex += by;
  draw();
  // the button is disabled at the end of the log, and the keyboard would lose its place
  const [pressed, other] = by > 0 ? ["next", "previous"] : ["previous", "next"];
  if (part(pressed).disabled) part(other).focus();
}

function classAt(image, x, y) {
  if (!image.hasAttribute("src") || !image.complete) return null;
  const canvas = new OffscreenCanvas(1, 1);
  const pen = canvas.getContext("2d");
  pen.drawImage(image, -Math.floor(x * image.naturalWidth), -Math.floor(y * image.naturalHeight));
  const [r, g, b, alpha] = pen.getImageData(0, 0, 1, 1).data;
  if (!alpha) return "no label";
  const far = ([, [red, green, blue]]) => Math.abs(red - r) + Math.abs(green - g) + Math.abs(blue - b);
  return colours.reduce((best, entry) => (far(entry) < far(best) ? entry : best))[0];
}

function point(event) {
  const box = part("stack").getBoundingClientRect();
  const x = Math.min(Math.max((event.clientX - box.left) / box.width, 0), .9999);
  const y = Math.min(Math.max((event.clientY - box.top) / box.height, 0), .9999);
  if (event.buttons & 1) {
    part("slider").value = 100 * x;
    wipe();
  }
  const found = ["left", "right"].map(side => [part(`${side}-tag`).textContent, classAt(part(side), x, y)]);
  part("readout").textContent = found.filter(([, name]) => name).map(([what, name]) => `${what}: ${name}`).join("; ");
}

for (const control of document.querySelectorAll("#frame, #camera, input[name]")) control.addEventListener("input", draw);
part("slider").addEventListener("input", wipe);
part("previous").addEventListener("click", () => step(-1));
part("next").addEventListener("click", () => step(1));
part("stack").addEventListener("pointerdown", event => { part("stack").setPointerCapture(event.pointerId); point(event); });
part("stack").addEventListener("pointermove", point);
part("image").draggable = part("left").draggable = part("right").draggable = false;
for (const button of document.querySelectorAll("button[data-frame]")) {
  button.addEventListener("click", () => {
    part("frame").selectedIndex = data.frames.findIndex(frame => String(frame.frame) === button.dataset.frame);
    draw();
    part("pictures").scrollIntoView();
    part("frame").focus({preventScroll: true});
  });
}
draw();
