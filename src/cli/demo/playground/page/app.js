// The page: what the program tells by server-sent events is shown, what the reader does is asked of the program.
// Texts of people are only ever set as textContent.

import { fillIn, has, language, setLanguage, t } from '/words.js';
import { setUpExplorer } from '/explorer.js';
import { setUpTour } from '/tour.js';

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; strings become text. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class') node.className = value;
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const parts = {};
let run = null;
let chosenCustomer = null;
let chosenAgent = null;

// --- Asking the program

export async function ask(path, body) {
  const isText = typeof body === 'string';
  const answer = await fetch(path, {
    method: 'POST',
    headers: { 'content-type': isText ? 'text/plain' : 'application/json', 'x-maxchannel-page': '1' },
    body: isText ? body : JSON.stringify(body),
  });
  const value = await answer.json().catch(() => ({ error: `${answer.status}` }));
  if (!answer.ok) throw new Error(value.error || `${answer.status}`);
  return value;
}

/** Does something; what goes wrong is told on top of the page. */
export async function act(what) {
  try {
    return await ask('/api/act', what);
  } catch (error) {
    complain(error.message);
    return null;
  }
}

function complain(text) {
  const line = el('p', {}, text);
  $('alerts').replaceChildren(line);
  setTimeout(() => line.remove(), 8000);
}

function inBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onerror = () => reject(reader.error);
    reader.onload = () => resolve({ name: file.name, mimeType: file.type, base64: reader.result.split(',')[1] || '' });
    reader.readAsDataURL(file);
  });
}

async function filesOf(input) {
  const files = await Promise.all([...input.files].map(inBase64));
  input.value = '';
  return files;
}

// --- Lists that change a little at a time

/** Keeps the children of `list` equal to `items`, each made by `make` and made anew only when it has changed. */
function keep(list, items, make) {
  const known = list.known || new Map();
  const next = new Map();
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  let place = list.firstChild;
  for (const item of items) {
    const print = JSON.stringify(item) + language();
    let entry = known.get(item.id);
    if (!entry || entry.print !== print) {
      const node = make(item);
      if (entry) {
        if (place === entry.node) place = node;
        entry.node.replaceWith(node);
      }
      entry = { node, print };
    }
    next.set(item.id, entry);
    if (entry.node === place) place = place.nextSibling;
    else list.insertBefore(entry.node, place);
  }
  while (place) {
    const after = place.nextSibling;
    place.remove();
    place = after;
  }
  list.known = next;
  if (atEnd) list.scrollTop = list.scrollHeight;
}

const time = (at) => new Date(at).toLocaleTimeString(language(), { hour: '2-digit', minute: '2-digit', second: '2-digit' });

const size = (bytes) => (bytes >= 1024 ? `${Math.round(bytes / 1024)} KB` : `${bytes ?? 0} B`);

function fileLink(href, name, bytes) {
  return el('a', { class: 'meta', href, download: name || '' }, `↓ ${name || t('file1')} (${size(bytes)})`);
}

// --- Phones

function buildPhones() {
  $('phoneList').replaceChildren(...(parts.people?.customers || []).map((one) => {
    const { user } = one;
    const text = el('textarea', { id: `write${user}`, rows: 2, maxLength: 20000 });
    const files = el('input', { type: 'file', multiple: true });
    const form = el('form', { class: 'write', onsubmit: async (event) => {
      event.preventDefault();
      await send(text, files, { do: 'write', user });
    } },
    el('label', { class: 'hidden', htmlFor: `write${user}` }, `${t('message')}: ${one.name}`), text,
    el('label', { class: 'file' }, el('span', {}, t('file')), files),
    el('button', { class: 'main' }, t('send')));
    sendByEnter(text, form);
    files.addEventListener('change', () => form.requestSubmit());
    return el('article', { class: 'phone', id: `phone${user}`, 'aria-label': one.name },
      el('header', {}, el('h3', {}, one.name), el('span', { class: 'phase', id: `phase${user}` })),
      el('div', { class: 'messages', id: `messages${user}`, role: 'log', tabIndex: 0, 'aria-label': `${t('conversation')}: ${one.name}` }),
      el('ul', { class: 'next', id: `next${user}` }),
      form);
  }));
}

/** Sends what was written. The place is free for the next words at once; what was not taken comes back into it. */
async function send(text, files, what) {
  const written = text.value;
  text.value = '';
  const message = { ...what, text: written, files: await filesOf(files) };
  if ((written || message.files.length) && !(await act(message)) && !text.value) text.value = written;
}

function sendByEnter(text, form) {
  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

function showPhone(user) {
  const list = $(`messages${user}`);
  if (!list) return;
  keep(list, parts[`phone ${user}`]?.messages || [], (one) => el('div', { class: one.mine ? 'message mine' : 'message' },
    one.text ? el('span', { class: 'text', dir: 'auto' }, one.text) : null,
    ...one.files.map((file) => fileLink(`/files/max/${file.file}`, file.name || file.kind, file.size)),
    one.buttons.length ? el('span', { class: 'keys', role: 'group', 'aria-label': t('buttons') },
      ...one.buttons.map((button) => el('button', { type: 'button', onclick: () => act({ do: 'press', user: Number(user), mid: one.id, button }) }, button))) : null,
    el('span', { class: 'meta' }, time(one.at) + (one.edited ? `, ${t('edited')}` : ''))));
}

function showDialog(user) {
  const dialog = parts[`dialog ${user}`];
  if (!$(`phase${user}`) || !dialog) return;
  $(`phase${user}`).textContent = t(`phase_${dialog.phase}`);
  const now = Date.now() + (parts.clock?.by || 0);
  const next = dialog.next.filter((line) => line.at > now).slice(0, 3);
  keep($(`next${user}`), next.map((line) => ({ id: `${line.at}${line.what}`, left: Math.max(0, Math.round((line.at - now) / 1000)), ...line })),
    (line) => el('li', {}, `${t(`what_${line.what}`)} ${t('in')} `, el('b', {}, span(line.left)), line.text ? `: ${line.text}` : ''));
}

function span(seconds) {
  const two = (number) => String(number).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const rest = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

// --- Desk

// Stock statuses of open chats; every other one is the end of a chat.
const OPEN = {
  '79bccffa-8c8b-4863-b376-a69d2244182b': 'waiting',
  '81737bdd-60c7-4ef7-bb75-52c53d5c38c1': 'progress',
  'b05fbf72-69ed-41a7-be7c-af3ec13b08c7': 'bot',
};

function customers() {
  return parts.people?.customers || [];
}

function chatOf(sender) {
  return (parts.chats || []).filter((chat) => chat.sender === sender).at(-1);
}

function isOpen(chat) {
  return Boolean(chat) && chat.statusId in OPEN;
}

function buildDesk() {
  const agents = parts.people?.agents || [];
  chosenAgent = agents.some((agent) => agent.id === chosenAgent) ? chosenAgent : agents[0]?.id;
  $('agent').replaceChildren(...agents.map((agent) => el('option', { value: agent.id, selected: agent.id === chosenAgent }, agent.name)));
}

function showChats() {
  const withChat = customers().filter((one) => chatOf(one.sender));
  if (!withChat.some((one) => one.user === chosenCustomer)) chosenCustomer = withChat[0]?.user ?? null;
  const agentName = (id) => parts.people?.agents.find((agent) => agent.id === id)?.name;
  if (!withChat.length) {
    $('chats').known = null;
    $('chats').replaceChildren(el('p', {}, t('noDialogs')));
  } else {
    if ($('chats').firstElementChild?.tagName === 'P') $('chats').replaceChildren();
    keep($('chats'), withChat.map((one) => {
      const chat = chatOf(one.sender);
      const whose = agentName(chat.agentId) || (chat.directedAgentId && isOpen(chat) ? `→ ${agentName(chat.directedAgentId)}` : '');
      return { id: one.user, name: chat.contact || one.name, status: t(`chat_${OPEN[chat.statusId] || 'over'}`), whose, chosen: one.user === chosenCustomer };
    }), (one) => el('button', { type: 'button', 'aria-pressed': String(one.chosen), onclick: () => {
      chosenCustomer = one.id;
      $('conversation').known = null;
      $('conversation').replaceChildren();
      showChats();
      showConversation();
    } }, el('span', { dir: 'auto' }, one.name), el('small', {}, [one.status, one.whose].filter(Boolean).join(' · '))));
  }
  const chat = chatOf(`max:${chosenCustomer}`);
  const mine = isOpen(chat) && chat.agentId === chosenAgent;
  $('accept').disabled = !isOpen(chat) || OPEN[chat.statusId] !== 'waiting';
  $('transfer').disabled = !mine;
  $('close').disabled = !mine;
  for (const control of $('agentForm').querySelectorAll('textarea, input, button')) control.disabled = !mine;
}

const OUTBOX = { Pending: 'pendingOne', Delivered: 'deliveredOne', Failed: 'failedOne', Uncertain: 'uncertainOne' };

function showConversation() {
  let chat = null;
  const items = [];
  for (const one of parts[`desk ${chosenCustomer}`] || []) {
    if (chat !== null && one.chat !== chat) items.push({ id: `chat ${one.chat}`, divider: true });
    chat = one.chat;
    items.push(one);
  }
  keep($('conversation'), items, (one) => {
    if (one.divider) return el('div', { class: 'message system' }, t('newChat'));
    const own = one.author !== 'customer' && one.author !== 'system';
    const state = one.outbox ? t(OUTBOX[one.outbox.state] || 'pendingOne') : '';
    const bad = one.outbox && ['Failed', 'Uncertain'].includes(one.outbox.state);
    const who = has(`what_${one.author}`) ? t(`what_${one.author}`) : one.agent || '';
    return el('div', { class: `message ${one.author === 'system' ? 'system' : own ? 'mine' : ''}` },
      one.text ? el('span', { class: 'text', dir: 'auto' }, one.text) : null,
      ...(one.files || []).map((file) => fileLink(`/files/crm/${file.id}`, file.name, file.size)),
      el('span', { class: bad ? 'meta bad' : 'meta' }, [time(one.at), own ? who : '', state, bad ? one.outbox.error : ''].filter(Boolean).join(' · ')));
  });
}

function showMango() {
  const mango = parts.mango;
  $('mango').replaceChildren(...(mango?.employees || []).map((one) => el('label', {},
    el('input', { type: 'checkbox', checked: one.member, onchange: (event) => act({ do: 'member', employee: one.id, member: event.target.checked }) }),
    ` ${one.name}, ${one.extension}, ${t('inGroup')} «${mango.group}»`)));
}

// --- The relay and the channel

/** The time on the company's wall, and whether it is at work. */
function clock() {
  const { by = 0, zone, open } = parts.clock || {};
  const at = new Date(Date.now() + by);
  const day = Math.abs(by) > 86_400_000 / 2 ? { day: 'numeric', month: 'short' } : {};
  const told = at.toLocaleString(language(), { ...day, hour: '2-digit', minute: '2-digit', timeZone: zone || undefined });
  return `${told}, ${t(open === false ? 'shut' : 'atWork')}`;
}

function showFigures() {
  const relay = parts.relay;
  if (!relay) return;
  const facts = relay.facts;
  const states = relay.outbox || {};
  const figures = [
    ['running', relay.answers ? t('up') : t('down')],
    ['toCrm', facts?.undelivered?.toCrm ?? '–'], ['toMax', facts?.undelivered?.toMax ?? '–'],
    ['pending', states.Pending || 0], ['delivered', states.Delivered || 0],
    ['dead', facts?.deadLetters ?? '–'], ['open', facts?.openDialogs ?? '–'],
    ['oldest', facts ? `${facts.oldestSeconds} ${t('seconds')}` : '–'],
    ['subscription', relay.subscriptions ? t('yes') : t('no')], ['clock', clock()],
  ];
  $('figures').replaceChildren(...figures.map(([name, value]) => el('div', {}, el('dt', {}, t(name)), el('dd', { id: `figure-${name}` }, String(value)))));
  $('replay').hidden = !facts?.deadLetters;
}

function support() {
  return (parts.channels || []).find((channel) => channel.name === 'support');
}

const isGood = (one) => !one.cause;

/** A condition in words, as it is shown everywhere on the page. */
export function conditionBox(one) {
  const kind = isGood(one) ? 'good' : one.class === 'Informational' || one.status === 'True' ? 'warn' : 'bad';
  const words = language();
  return el('div', { class: `condition ${kind}` },
    el('b', {}, `${one.type}=${one.status} ${one.reason}`),
    one.error ? el('span', { class: 'number' }, ` ${t('error')} ${one.error}`) : null,
    one.cause ? el('p', {}, `${t('cause')}: ${one.cause[words]}`) : null,
    one.detail ? el('p', {}, `${t('detail')}: ${one.detail}`) : null,
    one.remedy ? el('p', {}, `${t('remedy')}: ${one.remedy[words]}`) : null,
    one.who ? el('p', { class: 'number' }, `${t('who')}: ${one.who[words]}`) : null,
    !one.cause && one.message && one.status !== 'True' ? el('p', {}, one.message) : null);
}

function showConditions() {
  const channel = support();
  if (!channel) {
    $('conditions').replaceChildren(el('div', { class: 'condition warn' }, el('p', {}, t('unknown'))));
    return;
  }
  const told = channel.conditions.filter((one) => !['Ready', 'Stalled'].includes(one.type));
  const ready = channel.conditions.find((one) => one.type === 'Ready');
  const good = told.filter(isGood);
  const bad = told.filter((one) => !isGood(one));
  const head = ready ? el('div', { class: `condition ${ready.status === 'True' ? 'good' : 'bad'}`, id: 'ready' }, el('b', {}, `Ready=${ready.status} ${ready.reason}`)) : null;
  $('conditions').replaceChildren(...[head, ...bad.map(conditionBox),
    el('ul', { class: 'goods' }, ...good.map((one) => el('li', { class: one.status === 'True' ? '' : 'soft' }, `${one.type}: ${one.reason}`)))].filter(Boolean));
}

const AROUND = ['crmDown', 'crmSlow', 'answersCut', 'relayKilled', 'subscriptionLost', 'packageMissing', 'packageOutdated', 'botTakesDialogs', 'botAway', 'evening', 'holiday'];
const ERRORS = ['tokenNotFound', 'tokenInvalid', 'botUnderModeration', 'legalEntityAccessDenied', 'authorizationFailed', 'receiverNotSelected', 'autoRepliesNotConfigured'];
/** The condition in which a fault shows. */
const SHOWN_IN = {
  crmDown: 'CrmConnected', crmSlow: 'DeliveryHealthy', answersCut: 'DeliveryHealthy', subscriptionLost: 'IntakeReady', packageMissing: 'CrmConnected',
  packageOutdated: 'CrmConnected', botTakesDialogs: 'ReceiverResolved', botAway: 'ReceiverResolved', evening: 'AutoRepliesActive', holiday: 'AutoRepliesActive',
  receiverNotSelected: 'ReceiverResolved', autoRepliesNotConfigured: 'AutoRepliesActive',
};

function buildFaults() {
  const row = (name) => el('div', {},
    el('label', { class: 'switch' },
      el('input', { type: 'checkbox', role: 'switch', id: `fault-${name}`, onchange: (event) => act({ do: 'fault', name, on: event.target.checked }).then(showFaults) }),
      el('span', {}, t(`fault_${name}`), has(`note_${name}`) ? el('small', {}, ` ${t(`note_${name}`)}`) : null)),
    el('div', { id: `seen-${name}` }));
  $('faults').replaceChildren(
    el('fieldset', {}, el('legend', {}, t('outages')), ...AROUND.map(row)),
    el('fieldset', {}, el('legend', {}, t('errors')), ...ERRORS.map(row)));
  showFaults();
}

function showFaults() {
  const on = parts.faults || [];
  for (const name of [...AROUND, ...ERRORS]) {
    const box = $(`fault-${name}`);
    if (!box) continue;
    box.checked = on.includes(name);
    const condition = box.checked ? support()?.conditions.find((one) => one.type === (SHOWN_IN[name] || 'TokenAuthorized')) : null;
    const seen = condition && !isGood(condition) ? JSON.stringify(condition) + language() : '';
    const place = $(`seen-${name}`);
    if (place.seen !== seen) {
      place.seen = seen;
      place.replaceChildren(...(seen ? [conditionBox(condition)] : []));
    }
  }
}

function showPackage() {
  const condition = support()?.conditions.find((one) => one.type === 'CrmConnected');
  $('packageCondition').replaceChildren(...(condition ? [conditionBox(condition)] : []));
}

// --- The manifest

let typed = null;
let typing = 0;
let edits = 0;

function showManifest() {
  const manifest = parts.manifest;
  if (!manifest) return;
  const area = $('manifestText');
  if (typed === null && area.value !== manifest.text) area.value = manifest.text;
  showFindings(typed === null ? manifest.findings : typed);
}

function showFindings(findings) {
  const count = $('manifestText').value.split('\n').length;
  const worst = new Map();
  for (const one of findings) if (worst.get(one.line) !== 'error') worst.set(one.line, one.severity);
  const kinds = { error: 'bad', warning: 'warn' };
  $('lines').replaceChildren(...Array.from({ length: count }, (_, index) => el('li', { class: kinds[worst.get(index + 1)] || '' }, String(index + 1))));
  $('lines').scrollTop = $('manifestText').scrollTop;
  $('findings').replaceChildren(...findings.map((one) => el('li', { class: one.severity }, `${t('line')} ${one.line}: ${one.field ? `${one.field}: ` : ''}${one.message}`)));
  $('applied').textContent = findings.some((one) => one.severity === 'error') ? t('appliedNo') : t('appliedYes');
}

function setUpManifest() {
  const area = $('manifestText');
  area.addEventListener('scroll', () => { $('lines').scrollTop = area.scrollTop; });
  area.addEventListener('input', () => {
    typed = typed || [];
    clearTimeout(typing);
    const mine = ++edits;
    typing = setTimeout(async () => {
      const text = area.value;
      const { findings } = await ask('/api/check', text).catch(() => ({ findings: [] }));
      // Of what is no longer wanted nothing is applied.
      if (mine !== edits) return;
      typed = findings;
      showFindings(findings);
      await act({ do: 'manifest', text });
      // What is typed meanwhile stays; else the program's word counts again.
      if (area.value === text) setTimeout(() => { if (area.value === text) typed = null; }, 1000);
    }, 400);
  });
  $('firstManifest').addEventListener('click', async () => {
    typed = null;
    edits += 1;
    clearTimeout(typing);
    await act({ do: 'firstManifest' });
    // Where nothing that was typed had been applied yet, no news comes of it.
    showManifest();
  });
}

export const manifestText = () => $('manifestText').value || parts.manifest?.text || '';

// --- The whole

const VIEWS = { stage: 'viewStage', manifest: 'viewManifest', rules: 'viewRules', install: 'viewInstall' };

function showView() {
  const wanted = VIEWS[location.hash.slice(1)] ? location.hash.slice(1) : 'stage';
  for (const [name, id] of Object.entries(VIEWS)) $(id).hidden = name !== wanted;
  for (const link of $('tabs').children) {
    if (link.hash === `#${wanted}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.dispatchEvent(new CustomEvent('view', { detail: wanted }));
}

function showAll() {
  fillIn();
  buildPhones();
  buildDesk();
  buildFaults();
  for (const { user } of customers()) {
    showPhone(user);
    showDialog(user);
  }
  showChats();
  showConversation();
  showMango();
  showFigures();
  showConditions();
  showPackage();
  showManifest();
  $('language').textContent = language() === 'ru' ? 'English' : 'Русский';
  $('language').lang = language() === 'ru' ? 'en' : 'ru';
  document.dispatchEvent(new CustomEvent('language'));
}

function take(name, value) {
  const before = JSON.stringify(parts[name]);
  parts[name] = value;
  const [kind, user] = name.split(' ');
  if (kind === 'people' && before !== JSON.stringify(value)) showAll();
  else if (kind === 'phone') showPhone(user);
  else if (kind === 'dialog') showDialog(user);
  else if (kind === 'desk') { if (String(chosenCustomer) === user) showConversation(); }
  else if (kind === 'chats') { showChats(); showConversation(); }
  else if (kind === 'mango') showMango();
  else if (kind === 'relay') showFigures();
  else if (kind === 'clock') { showFigures(); document.dispatchEvent(new CustomEvent('clock', { detail: value })); }
  else if (kind === 'channels') { showConditions(); showFaults(); showPackage(); }
  else if (kind === 'faults') showFaults();
  else if (kind === 'manifest') { showManifest(); document.dispatchEvent(new CustomEvent('manifest')); }
}

function listen() {
  const source = new EventSource('/api/events');
  source.addEventListener('hello', (event) => {
    const hello = JSON.parse(event.data);
    if (run === null) choose(new URLSearchParams(location.search).get('lang') || stored() || hello.language);
    run = hello.run;
    $('link').textContent = t('linked');
    $('link').className = 'link';
  });
  source.addEventListener('part', (event) => {
    const { name, value } = JSON.parse(event.data);
    take(name, value);
  });
  source.addEventListener('error', () => {
    $('link').textContent = t('lost');
    $('link').className = 'link lost';
    // A browser gives up for good where something else answers in the program's place.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
  });
}

function stored() {
  try {
    return localStorage.getItem('language');
  } catch {
    return null;
  }
}

function choose(code) {
  setLanguage(code);
  try {
    localStorage.setItem('language', code);
  } catch {
    // A browser that keeps nothing forgets the choice, and that is all.
  }
  if (run !== null) $('link').textContent = t('linked');
  showAll();
}

$('language').addEventListener('click', () => choose(language() === 'ru' ? 'en' : 'ru'));
$('agent').addEventListener('change', () => { chosenAgent = $('agent').value; showChats(); });
$('accept').addEventListener('click', () => act({ do: 'accept', chat: chatOf(`max:${chosenCustomer}`).id, agent: chosenAgent }));
$('transfer').addEventListener('click', () => {
  const to = parts.people.agents.find((agent) => agent.id !== chosenAgent).id;
  act({ do: 'transfer', chat: chatOf(`max:${chosenCustomer}`).id, agent: chosenAgent, to });
});
$('close').addEventListener('click', () => act({ do: 'close', chat: chatOf(`max:${chosenCustomer}`).id, agent: chosenAgent }));
$('agentForm').addEventListener('submit', async (event) => {
  event.preventDefault();
  await send($('agentText'), $('agentFile'), { do: 'send', chat: chatOf(`max:${chosenCustomer}`).id, agent: chosenAgent });
});
$('agentFile').addEventListener('change', () => $('agentForm').requestSubmit());
sendByEnter($('agentText'), $('agentForm'));
$('mend').addEventListener('click', () => act({ do: 'mend' }));
$('replay').addEventListener('click', () => act({ do: 'replay' }));
$('packageMissing').addEventListener('click', () => act({ do: 'fault', name: 'packageMissing', on: true }));
$('packageOutdated').addEventListener('click', async () => {
  await act({ do: 'fault', name: 'packageMissing', on: false });
  await act({ do: 'fault', name: 'packageOutdated', on: true });
});
$('packageRight').addEventListener('click', async () => {
  await act({ do: 'fault', name: 'packageOutdated', on: false });
  await act({ do: 'fault', name: 'packageMissing', on: false });
});
setUpManifest();
setUpExplorer();
setUpTour(() => parts);
addEventListener('hashchange', showView);
showView();
setInterval(() => {
  for (const { user } of customers()) showDialog(user);
  if ($('figure-clock') && $('figure-clock').textContent !== clock()) $('figure-clock').textContent = clock();
}, 1000);
listen();
