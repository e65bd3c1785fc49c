// The status page: what the program tells by server-sent events is shown. It is only ever set as textContent.

const WORDS = {
  en: { live: 'live', lost: 'the program does not answer; trying again', token: 'Token of the status page', enter: 'Enter',
    cause: 'Cause', remedy: 'Remedy', who: 'Who mends it', detail: 'Detail', error: 'documented error', toCrm: 'waits for the CRM', toMax: 'waits for MAX', oldest: 'oldest waits', open: 'open dialogs',
    seen: 'MAX last brought something', dead: 'dead letters', never: 'never', replay: 'Try again', kind: 'Message of', why: 'Why', age: 'Age', act: 'Act', uncertain: 'uncertain: the customer may have it', none: 'There are no channels.',
    norelay: 'Its relay does not run.', s: 's', min: 'min', h: 'h', d: 'd', wrong: 'The token is wrong.', letters: 'Dead letters' },
  ru: { live: 'на связи', lost: 'программа не отвечает, пробуем снова', token: 'Токен страницы состояния', enter: 'Войти',
    cause: 'Причина', remedy: 'Решение', who: 'Кто чинит', detail: 'Подробно', error: 'ошибка', toCrm: 'ждёт CRM', toMax: 'ждёт MAX', oldest: 'старейшее ждёт', open: 'открытых диалогов',
    seen: 'последнее от MAX', dead: 'не доставлено', never: 'никогда', replay: 'Отправить снова', kind: 'Чьё сообщение', why: 'Почему', age: 'Возраст', act: 'Действие', uncertain: 'неизвестно: клиент мог его получить', none: 'Каналов нет.',
    norelay: 'Ретранслятор не работает.', s: 'с', min: 'мин', h: 'ч', d: 'дн', wrong: 'Токен неверный.', letters: 'Недоставленное' },
};

const $ = (id) => document.getElementById(id);
let language = (navigator.language || 'en').startsWith('ru') ? 'ru' : 'en';
let token = '';
let waiting = null;
const t = (word) => WORDS[language][word];

try {
  token = sessionStorage.getItem('token') || '';
} catch {
  // Without it the token is asked for again.
}

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class') node.className = value;
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

async function ask(path, body, signal) {
  const headers = { 'x-maxchannel-page': '1' };
  if (token) headers.authorization = `Bearer ${token}`;
  if (body) headers['content-type'] = 'application/json';
  return fetch(path, { method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), signal });
}

function span(seconds) {
  if (seconds < 60) return `${seconds} ${t('s')}`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} ${t('min')}`;
  return seconds < 86400 ? `${Math.floor(seconds / 3600)} ${t('h')}` : `${Math.floor(seconds / 86400)} ${t('d')}`;
}

function box(one) {
  const good = !one.cause;
  const kind = good ? (one.status === 'True' ? 'good' : '') : one.class === 'Informational' || one.status === 'True' ? 'warn' : 'bad';
  return el('div', { class: `condition ${kind}` }, el('b', {}, `${one.type}=${one.status} ${one.reason}`),
    one.error ? ` ${t('error')} ${one.error}` : null,
    one.cause ? el('p', {}, `${t('cause')}: ${one.cause[language]}`) : null,
    one.detail ? el('p', {}, `${t('detail')}: ${one.detail}`) : null,
    one.remedy ? el('p', {}, `${t('remedy')}: ${one.remedy[language]}`) : null,
    one.who ? el('p', {}, `${t('who')}: ${one.who[language]}`) : null);
}

function letters(channel) {
  if (!channel.letters?.length) return null;
  const row = (one) => el('tr', {}, el('td', {}, one.author), el('td', { dir: 'auto' }, one.reason + (one.uncertain ? ` (${t('uncertain')})` : '')), el('td', {}, span(one.ageSeconds)),
    el('td', {}, el('button', { type: 'button', onclick: () => replay(channel, [one.id]) }, t('replay'))));
  return el('div', { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': t('letters') }, el('h3', {}, t('letters')), el('table', {},
    el('thead', {}, el('tr', {}, ...['kind', 'why', 'age', 'act'].map((word) => el('th', { scope: 'col' }, t(word))))), el('tbody', {}, ...channel.letters.map(row))));
}

function section(channel) {
  const told = channel.conditions.filter((one) => !['Ready', 'Stalled'].includes(one.type));
  const ready = channel.conditions.find((one) => one.type === 'Ready');
  const relay = channel.relay;
  const figures = relay ? [
    ['toCrm', relay.toCrm], ['toMax', relay.toMax], ['oldest', span(relay.oldestSeconds)], ['open', relay.openDialogs], ['dead', relay.deadLetters],
    ['seen', relay.lastUpdateAt ? new Date(relay.lastUpdateAt).toLocaleString(language, { dateStyle: 'short', timeStyle: 'short' }) : t('never')],
  ] : [];
  return el('section', { 'aria-label': `${channel.namespace}/${channel.name}` },
    el('h2', {}, `${channel.namespace}/${channel.name}`, channel.bot ? ` · ${channel.bot}` : '', channel.intake ? ` · ${channel.intake}` : ''),
    ready ? el('div', { class: `condition ${ready.status === 'True' ? 'good' : 'bad'}` }, el('b', {}, `Ready=${ready.status} ${ready.reason}`)) : null,
    ...told.filter((one) => one.cause).map(box), el('ul', {}, ...told.filter((one) => !one.cause).map((one) => el('li', { class: one.status === 'True' ? '' : 'soft' }, `${one.type}: ${one.reason}`))),
    relay ? el('dl', {}, ...figures.map(([word, value]) => el('div', {}, el('dt', {}, t(word)), el('dd', {}, String(value))))) : el('p', {}, t('norelay')), letters(channel));
}

function words() {
  document.documentElement.lang = language;
  $('language').textContent = language === 'ru' ? 'English' : 'Русский';
  $('language').lang = language === 'ru' ? 'en' : 'ru';
  $('tokenLabel').textContent = t('token');
  $('enter').textContent = t('enter');
}

const parts = new Map();
const nodes = new Map();

/** Shows what is known; a channel is drawn anew only when it has changed, so that a reader's place in it stays. */
function show() {
  $('problems').replaceChildren(...(parts.get('problems') || []).map((text) => el('p', {}, text)));
  const names = [...parts.keys()].filter((name) => name.startsWith('channel ')).sort();
  for (const name of nodes.keys()) if (!parts.has(name)) nodes.delete(name);
  for (const name of names) {
    const print = JSON.stringify(parts.get(name)) + language;
    if (nodes.get(name)?.print === print) continue;
    const node = section(parts.get(name));
    nodes.get(name)?.node.replaceWith(node);
    nodes.set(name, { print, node });
  }
  const wanted = names.length ? names.map((name) => nodes.get(name).node) : [el('p', {}, t('none'))];
  const list = $('channels');
  if (wanted.length !== list.children.length || wanted.some((node, index) => node !== list.children[index])) list.replaceChildren(...wanted);
}

function needToken(place, wrong) {
  $('login').hidden = false;
  $('tokenHelp').textContent = place[language];
  $('message').textContent = wrong ? t('wrong') : '';
}

function take(event, data) {
  if (event === 'hello') {
    $('version').textContent = data.version;
    // The program tells everything anew, and this may be another one.
    parts.clear();
  } else if (data.value === null) {
    parts.delete(data.name);
  } else {
    parts.set(data.name, data.value);
  }
}

/** Reads events until the stream ends. A browser's own EventSource cannot show a token. */
async function read(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ''; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split('\n\n');
    text = events.pop();
    for (const event of events) {
      const line = (name) => event.split('\n').find((one) => one.startsWith(`${name}: `))?.slice(name.length + 2);
      if (line('event')) take(line('event'), JSON.parse(line('data')));
    }
    if (parts.has('problems')) show();
  }
}

let listening = new AbortController();

/** Listens for as long as the page is open; where the program has gone it is called again until it answers. */
async function listen() {
  listening.abort();
  const mine = new AbortController();
  listening = mine;
  while (!mine.signal.aborted) {
    try {
      const answer = await ask('/ui/events', null, mine.signal);
      $('link').textContent = t('live');
      $('link').className = '';
      if (answer.status === 401) {
        needToken((await answer.json()).place, token !== '');
        return;
      }
      if (!waiting) $('login').hidden = true;
      await read(answer.body);
    } catch {
      // Told below; it is tried again.
    }
    if (mine.signal.aborted) return;
    $('link').textContent = t('lost');
    $('link').className = 'lost';
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
  }
}

async function replay(channel, ids) {
  const answer = await ask('/ui/replay', { namespace: channel.namespace, name: channel.name, ids });
  const value = await answer.json();
  if (answer.status === 401) {
    // Acting needs the token even where reading does not; with it the same is tried again.
    waiting = () => replay(channel, ids);
    needToken(value.place, token !== '');
    $('token').focus();
    return;
  }
  $('message').textContent = answer.ok ? '' : value.error;
}

$('login').addEventListener('submit', (event) => {
  event.preventDefault();
  token = $('token').value.trim();
  $('token').value = '';
  $('message').textContent = '';
  try {
    sessionStorage.setItem('token', token);
  } catch {
    // It is kept as long as the page is open.
  }
  const again = waiting;
  waiting = null;
  if (again) {
    $('login').hidden = true;
    again();
  } else {
    listen();
  }
});
$('language').addEventListener('click', () => { language = language === 'ru' ? 'en' : 'ru'; words(); show(); });
words();
listen();
