// The pad: a canvas for drawing, sent as a small PNG while strokes are drawn. Runs once, when the page has loaded it.
const canvas = element.querySelector("canvas");
const brush = canvas.getContext("2d");
const small = document.createElement("canvas");
small.width = small.height = 112;
let last = null, timer = 0, sent = 0;
const INTERVAL = 120; // milliseconds between two images that are sent

function clear() {
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, canvas.width, canvas.height);
}

function send() {
  timer = 0;
  sent = Date.now();
  small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
  props.value = small.toDataURL("image/png");
  trigger("input");
}

function sendSoon() {
  if (!timer) timer = setTimeout(send, Math.max(0, INTERVAL - (Date.now() - sent)));
}

function position(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
}

function line(from, to) {
  brush.strokeStyle = "#fff";
  brush.lineWidth = 24;
  brush.lineCap = brush.lineJoin = "round";
  brush.beginPath();
  brush.moveTo(...from);
  brush.lineTo(...to);
  brush.stroke();
}

canvas.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  last = position(event);
  line(last, last);
  sendSoon();
});
canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  for (const moved of event.getCoalescedEvents?.() ?? [event]) {
    const to = position(moved);
    line(last, to);
    last = to;
  }
  sendSoon();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => { if (last) { last = null; sendSoon(); } });
}
element.querySelector(".dk-clear").addEventListener("click", () => {
  clear();
  clearTimeout(timer);
  timer = 0;
  props.value = "";
  trigger("input");
});
for (const example of element.querySelectorAll(".dk-examples button")) {
  example.addEventListener("click", () => {
    clear();
    brush.imageSmoothingEnabled = true;
    brush.drawImage(example.querySelector("img"), 0, 0, canvas.width, canvas.height);
    sendSoon();
  });
}
clear();
