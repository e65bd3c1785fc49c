// The rules explorer: the week as a picture, and a dialog told beforehand.

import { $, ask, el, manifestText } from '/app.js';
import { has, reason, t } from '/words.js';

const STORIES = [
  '- {at: 0s, customer: starts}\n- {at: 5s, customer: writes, text: "Здравствуйте!"}',
  '- {at: 0s, customer: starts}\n- {at: 5s, customer: writes, text: "Здравствуйте!"}\n- {at: 1m55s, agent: accepts}\n- {at: 2m, agent: answers, text: "Слушаю вас"}\n- {at: 10m, agent: closes}',
  '- {at: 0s, customer: starts}\n- {at: 10m, customer: writes, text: "Здравствуйте!"}',
  '- {at: 0s, customer: starts}\n- {at: 5s, customer: writes, text: "Здравствуйте!"}\n- {at: 6s, bot: answers, text: "Чем помочь?"}\n- {at: 1m, bot: handsOver}',
];
const SVG = 'http://www.w3.org/2000/svg';

let compared = null;
let asked = 0;

function svg(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function drawWeek(told) {
  const week = told.week;
  if (!week) {
    $('week').replaceChildren(el('p', {}, t('always')));
    return;
  }
  const left = 96;
  const width = 720;
  const row = 26;
  const names = t('days').split(',');
  const hours = (minutes) => `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`;
  const words = week.days.map((day, index) => `${names[index]} ${day.open.map(([from, to]) => `${hours(from)}–${hours(to)}`).join(', ') || t('holidayWord')}`);
  const picture = svg('svg', { viewBox: `0 0 ${left + width + 12} ${row * 7 + 24}`, role: 'img', 'aria-label': `${week.zone}: ${words.join('; ')}` });
  week.days.forEach((day, index) => {
    const y = index * row + 4;
    picture.append(svg('text', { x: 0, y: y + 15 }, `${names[index]} ${day.date.slice(5)}`));
    picture.append(svg('rect', { x: left, y, width, height: row - 6, rx: 4, class: day.today ? 'day today' : 'day' }));
    for (const [from, to] of day.open) {
      picture.append(svg('rect', { x: left + (from / day.minutes) * width, y: y + 2, width: ((to - from) / day.minutes) * width, height: row - 10, rx: 3, class: 'open' }));
    }
    if (!day.open.length) picture.append(svg('text', { x: left + 8, y: y + 15, class: 'soft' }, t('holidayWord')));
    if (day.today) {
      const [hour, minute] = told.at.slice(11, 16).split(':').map(Number);
      const x = left + ((hour * 60 + minute) / day.minutes) * width;
      picture.append(svg('line', { x1: x, x2: x, y1: y - 2, y2: y + row - 4, class: 'moment' }));
    }
  });
  for (let hour = 0; hour <= 24; hour += 3) picture.append(svg('text', { x: left + (hour / 24) * width, y: row * 7 + 18, 'text-anchor': 'middle', class: 'soft' }, String(hour)));
  $('week').replaceChildren(picture);
}

const key = (line) => JSON.stringify([line.at, line.direction, line.party, line.what, line.text]);

function drawTimeline(told, before) {
  const known = before ? new Set(before.timeline.map(key)) : null;
  const now = new Set(told.timeline.map(key));
  const lines = told.timeline.map((line) => ({ ...line, mark: known && !known.has(key(line)) ? 'added' : '' }));
  if (before) lines.push(...before.timeline.filter((line) => !now.has(key(line))).map((line) => ({ ...line, mark: 'gone' })));
  lines.sort((one, other) => one.at.localeCompare(other.at));
  const rows = lines.map((line) => el('tr', { class: `${line.mark} ${line.direction === 'from' ? 'happened' : ''}` },
    el('td', { class: 'time' }, line.at.slice(0, 19).replace('T', ' ')),
    el('td', {}, (has(`what_${line.what}`) ? t(`what_${line.what}`) : line.what) + (line.direction === 'to' && line.party === 'customer' ? `, ${t('to_customer')}` : '')
      + (line.mark ? ` (${t(line.mark)})` : '')),
    el('td', { dir: 'auto' }, line.text || ''), el('td', {}, reason(line.why))));
  $('timeline').replaceChildren(
    el('thead', {}, el('tr', {}, ...['when', 'what', 'text', 'why'].map((word) => el('th', { scope: 'col' }, t(word))))),
    el('tbody', {}, ...rows, el('tr', {}, el('td', {}, t('then')), el('td', { colSpan: 3 }, t(`phase_${told.end}`)))));
}

async function explore() {
  if ($('viewRules').hidden || !$('at').value) return;
  const mine = ++asked;
  const question = (manifest) => ({ manifest, at: $('at').value.replace('T', ' '), events: STORIES[$('story').selectedIndex] || STORIES[0] });
  try {
    const told = await ask('/api/rules', question(manifestText()));
    const before = compared === null ? null : await ask('/api/rules', question(compared));
    if (mine !== asked) return;
    $('rulesProblem').textContent = '';
    drawWeek(told);
    drawTimeline(told, before);
  } catch (error) {
    if (mine === asked) $('rulesProblem').textContent = error.message;
  }
}

function fillStories() {
  const chosen = Math.max(0, $('story').selectedIndex);
  $('story').replaceChildren(...STORIES.map((_, index) => el('option', { selected: index === chosen }, t(`story${index + 1}`))));
}

export function setUpExplorer() {
  let chosen = false;
  // Until the reader chooses a moment it is the present by the relay's clock, as the company's wall shows it.
  document.addEventListener('clock', ({ detail: { by, zone } }) => {
    if (chosen) return;
    const at = new Date(Date.now() + by).toLocaleString('sv-SE', { dateStyle: 'short', timeStyle: 'short', timeZone: zone || undefined });
    $('at').value = at.replace(' ', 'T');
    explore();
  });
  $('at').addEventListener('input', () => { chosen = true; });
  for (const id of ['at', 'story']) $(id).addEventListener('change', explore);
  $('remember').addEventListener('click', () => { compared = manifestText(); $('forget').hidden = false; explore(); });
  $('forget').addEventListener('click', () => { compared = null; $('forget').hidden = true; explore(); });
  document.addEventListener('language', () => { fillStories(); explore(); });
  document.addEventListener('view', explore);
  document.addEventListener('manifest', explore);
}
