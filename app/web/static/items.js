// Kinds of questions that few forms have: lines to mark, and sheets to sign on.

const on = (type, act) => document.addEventListener(type, act);

// A file that is too large is not even sent: it is taken out again, and its question says why.

on('change', (event) => {
  const chosen = event.target.closest?.('[data-most]');
  if (!chosen) return;
  const large = chosen.files[0]?.size > Number(chosen.dataset.most);
  const said = chosen.closest('[data-item]')?.querySelector('[data-error]');
  if (large) chosen.value = '';
  if (!said) return;
  said.querySelector('[data-words]').textContent = large ? chosen.dataset.large : '';
  said.hidden = !large;
  chosen.setAttribute('aria-invalid', large);
});

// A line to mark has no value until it is touched: a press, an arrow key, or Space in its middle. Its number goes with the form.

const mark = (slider, value, tells = false) => {
  const line = slider.querySelector('[type=range]');
  const kept = slider.querySelector('[name]');
  kept.value = value;
  line.classList.toggle('untouched', value === '');
  if (value === '') {
    line.value = (Number(line.min) + Number(line.max)) / 2;
    line.setAttribute('aria-valuetext', line.dataset.unmarked);
  } else line.removeAttribute('aria-valuetext');
  slider.querySelector('[data-unmark]').hidden = value === '';
  if (tells) kept.dispatchEvent(new Event('change', {bubbles: true}));
};
const lineOf = (event) => event.target.closest?.('[data-slider] [type=range]');
on('input', (event) => {
  const line = lineOf(event);
  if (line) mark(line.closest('[data-slider]'), line.value);
  else if (event.target.closest('[data-slider]') && /^-?\d+$/.test(event.target.value)) {
    const slider = event.target.closest('[data-slider]');
    slider.querySelector('[type=range]').value = event.target.value;
    mark(slider, event.target.value);
  }
});
on('change', (event) => {
  const line = lineOf(event);
  if (line) mark(line.closest('[data-slider]'), line.value, true);
  // A reason why there is no answer takes out the mark.
  const slider = event.target.matches('[data-missing]') && event.target.value && event.target.closest('[data-item]').querySelector('[data-slider]');
  if (slider) mark(slider, '');
});
on('pointerup', (event) => {
  const line = lineOf(event);
  if (line?.classList.contains('untouched')) mark(line.closest('[data-slider]'), line.value, true);
});
on('keydown', (event) => {
  const line = lineOf(event);
  if (line && event.key === ' ') { event.preventDefault(); mark(line.closest('[data-slider]'), line.value, true); }
  if (line && (event.key === 'Backspace' || event.key === 'Delete')) mark(line.closest('[data-slider]'), '', true);
});
on('click', (event) => {
  const slider = event.target.closest('[data-unmark]')?.closest('[data-slider]');
  if (slider) { mark(slider, '', true); slider.querySelector('[type=range]').focus(); }
});
// Where the number of a line is not shown, the line is what its label and a problem lead to.
document.querySelectorAll('[data-slider] .without-js [name]').forEach((kept) => {
  const {id} = kept;
  kept.removeAttribute('id');
  if (id) kept.closest('[data-slider]').querySelector('[type=range]').id = id;
});

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
