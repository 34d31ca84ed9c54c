// A sheet to sign on. Kept are strokes, lists of points on a sheet of 600 by 200, and never a picture.

const WIDTH = 600;
const HEIGHT = 200;
const MOST = 4900; // points; the server takes 5,000

const draw = (canvas, strokes) => {
  const pen = canvas.getContext('2d');
  pen.clearRect(0, 0, WIDTH, HEIGHT);
  pen.strokeStyle = getComputedStyle(canvas).color;
  pen.lineWidth = 3;
  pen.lineCap = pen.lineJoin = 'round';
  strokes.forEach((stroke) => {
    pen.beginPath();
    pen.moveTo(stroke[0], stroke[1]);
    for (let at = 2; at < stroke.length; at += 2) pen.lineTo(stroke[at], stroke[at + 1]);
    if (stroke.length === 2) pen.lineTo(stroke[0] + 0.1, stroke[1]);
    pen.stroke();
  });
};

const read = (text) => {
  try { return JSON.parse(text || '[]'); } catch { return []; }
};

document.querySelectorAll('[data-pad]').forEach((pad) => {
  const canvas = pad.querySelector('canvas');
  const field = pad.querySelector('input');
  const clear = pad.querySelector('[data-clear]');
  let strokes = read(field.value);
  let stroke = null;

  const keep = () => {
    field.value = strokes.length ? JSON.stringify(strokes) : '';
    clear.hidden = !strokes.length;
    ['input', 'change'].forEach((type) => field.dispatchEvent(new Event(type, {bubbles: true})));
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const within = (value, most) => Math.min(Math.max(Math.round(value), 0), most);
    return [within((event.clientX - box.left) * WIDTH / box.width, WIDTH), within((event.clientY - box.top) * HEIGHT / box.height, HEIGHT)];
  };
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    stroke = at(event);
    strokes.push(stroke);
    draw(canvas, strokes);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!stroke || strokes.reduce((sum, each) => sum + each.length / 2, 0) >= MOST) return;
    const [x, y] = at(event);
    if (Math.hypot(x - stroke.at(-2), y - stroke.at(-1)) < 2) return;
    stroke.push(x, y);
    draw(canvas, strokes);
  });
  ['pointerup', 'pointercancel'].forEach((type) => canvas.addEventListener(type, () => {
    if (!stroke) return;
    stroke = null;
    keep();
  }));
  clear.addEventListener('click', () => {
    strokes = [];
    draw(canvas, strokes);
    keep();
    (pad.parentElement.querySelector('input:not([type=hidden])') ?? clear).focus();
  });
  draw(canvas, strokes);
});
