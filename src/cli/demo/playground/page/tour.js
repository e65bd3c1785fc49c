// The guided tour: eight steps, each with something to watch.

import { $, act } from '/app.js';
import { language, t } from '/words.js';

const wait = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

let parts = () => ({});

const customer = (index) => parts().people.customers[index];
const chat = (index) => (parts().chats || []).filter((one) => one.sender === customer(index).sender).at(-1);

/** Waits until something is there; gives up after a while, and the reader sees what is missing. */
async function until(holds, seconds = 20) {
  for (let left = seconds * 10; left > 0; left -= 1) {
    if (holds()) return true;
    await wait(100);
  }
  return false;
}

async function serve(index) {
  await until(() => chat(index));
  const one = chat(index);
  const agent = one.agentId || one.directedAgentId || parts().people.agents[0].id;
  if (!one.agentId) await act({ do: 'accept', chat: one.id, agent });
  return { chat: chat(index).id, agent };
}

async function error(name) {
  await act({ do: 'mend' });
  await act({ do: 'fault', name, on: true });
}

let errors = 0;

const STEPS = [
  {
    place: 'phones',
    en: ['Two customers', 'On the left are the phones of Anna and Boris in MAX, on the right the desk of your agents in Creatio, between them the relay. Everything runs on this machine; only MAX, MANGO OFFICE and Creatio are doubles. Let Anna write.'],
    ru: ['Два клиента', 'Слева телефоны Анны и Бориса в MAX, справа рабочее место операторов в Creatio, между ними ретранслятор. Всё работает на этой машине; MAX, MANGO OFFICE и Creatio здесь ненастоящие, остальное настоящее. Пусть Анна напишет.'],
    run: () => act({ do: 'write', user: customer(0).user, text: 'Здравствуйте! Где мой заказ № 1017?' }),
  },
  {
    place: 'desk',
    en: ['An agent answers', 'The message is in Creatio, with the auto-reply and its true time. The group of MANGO OFFICE says who may answer. The agent accepts and answers; from now on no auto-reply is sent: the countdown on the phone is gone.'],
    ru: ['Оператор отвечает', 'Сообщение уже в Creatio, рядом автоответ со своим временем. Кто отвечает, решает группа MANGO OFFICE. Оператор принимает диалог и отвечает; автоответов больше не будет: обратный отсчёт на телефоне исчез.'],
    run: async () => { const { chat: id, agent } = await serve(0); await act({ do: 'send', chat: id, agent, text: 'Здравствуйте, Анна! Уже в пути, будет завтра.' }); },
  },
  {
    place: 'desk',
    en: ['Transfer and close', 'The dialog goes to a colleague, who closes it. Anna reads the close message; the next thing she writes begins a new dialog.'],
    ru: ['Передача и завершение', 'Диалог переходит к коллеге, и тот его завершает. Анна читает прощальное сообщение; следующее её слово начнёт новый диалог.'],
    run: async () => {
      const { chat: id, agent } = await serve(0);
      const other = parts().people.agents.find((one) => one.id !== agent).id;
      await act({ do: 'transfer', chat: id, agent, to: other });
      await until(() => chat(0).id !== id);
      await act({ do: 'accept', chat: chat(0).id, agent: other });
      await act({ do: 'close', chat: chat(0).id, agent: other });
    },
  },
  {
    place: 'between',
    en: ['The CRM is down', 'Creatio stops answering while Boris writes. Nothing is lost: the message waits on disk, and the condition says so with cause and remedy. Then the CRM comes back, and the message arrives.'],
    ru: ['CRM не работает', 'Creatio перестаёт отвечать, а Борис пишет. Ничего не теряется: сообщение ждёт на диске, а условие называет причину и решение. Потом CRM возвращается, и сообщение доходит.'],
    run: async () => {
      await act({ do: 'fault', name: 'crmDown', on: true });
      await act({ do: 'write', user: customer(1).user, text: 'Добрый день! Пришлите, пожалуйста, договор.' });
      await wait(6000);
      await act({ do: 'fault', name: 'crmDown', on: false });
    },
  },
  {
    place: 'between',
    en: ['The relay is killed', 'kill -9 in the middle of a conversation. MAX and Creatio keep what comes meanwhile; started again, the relay delivers each message once and in order.'],
    ru: ['Ретранслятор убит', 'kill -9 посреди разговора. Что приходит, пока хранят MAX и Creatio; после запуска ретранслятор доставит каждое сообщение один раз и по порядку.'],
    run: async () => {
      await act({ do: 'fault', name: 'relayKilled', on: true });
      for (const text of ['Вы тут?', 'Договор нужен сегодня.', 'Спасибо!']) await act({ do: 'write', user: customer(1).user, text });
      await wait(3000);
      await act({ do: 'fault', name: 'relayKilled', on: false });
    },
  },
  {
    place: 'between',
    en: ['Errors 1 to 5: the token', 'Press “Show me” five times: the token is missing (1), revoked (2), the bot is under moderation (3), the company is not let in (4), any other refusal (5). Each says what to do and who can do it.'],
    ru: ['Ошибки 1–5: токен', 'Нажмите «Показать» пять раз: токена нет (1), он отозван (2), бот на модерации (3), юрлицу закрыт доступ (4), любой другой отказ (5). Каждая говорит, что делать и кто это может.'],
    run: async () => { await error(['tokenNotFound', 'tokenInvalid', 'botUnderModeration', 'legalEntityAccessDenied', 'authorizationFailed'][errors % 5]); errors += 1; },
  },
  {
    place: 'between',
    en: ['Errors 6 and 7: the settings', 'Nobody is chosen to take dialogs (6): messages are kept until somebody is. No auto-replies (7): only a remark, the channel works. Both are edits of the manifest; look at it under “Manifest”.'],
    ru: ['Ошибки 6 и 7: настройки', 'Не выбран получатель (6): сообщения хранятся, пока его не выберут. Нет автоответов (7): только замечание, канал работает. Обе сделаны правкой манифеста; посмотрите на него в разделе «Манифест».'],
    run: async () => { await error(errors % 2 ? 'autoRepliesNotConfigured' : 'receiverNotSelected'); errors += 1; },
    enter: () => { errors = 0; },
  },
  {
    place: 'between',
    en: ['Evening, and then your own', 'The relay’s clock moves to the minute after closing time: the off-hours reply is sent instead. “Mend everything” puts all right again. What your own Creatio needs stands under “In your Creatio”.'],
    ru: ['Вечер, а потом и у вас', 'Часы ретранслятора переходят на минуту после конца рабочего дня: вместо обычных автоответов уходит ответ нерабочего времени. «Всё починить» возвращает всё на место. Что нужно вашему Creatio, сказано в разделе «В вашем Creatio».'],
    run: async () => { await error('evening'); await wait(1500); await act({ do: 'write', user: customer(0).user, text: 'Вы ещё работаете?' }); },
  },
];

let at = 0;
let running = false;

function show() {
  const step = STEPS[at];
  const [title, text] = step[language()];
  $('tourCount').textContent = `${t('step')} ${at + 1} ${t('of')} ${STEPS.length}`;
  $('tourTitle').textContent = title;
  $('tourText').textContent = text;
  $('tourBack').disabled = at === 0;
  $('tourNext').disabled = at === STEPS.length - 1;
  $('tourDo').disabled = running;
  for (const lit of document.querySelectorAll('.lit')) lit.classList.remove('lit');
  $(step.place).classList.add('lit');
}

function go(to) {
  at = Math.min(STEPS.length - 1, Math.max(0, to));
  STEPS[at].enter?.();
  show();
}

async function leave() {
  $('tour').hidden = true;
  for (const lit of document.querySelectorAll('.lit')) lit.classList.remove('lit');
  $('tourButton').focus();
  await act({ do: 'mend' });
}

export function setUpTour(look) {
  parts = look;
  $('tourButton').addEventListener('click', () => { location.hash = '#stage'; $('tour').hidden = false; errors = 0; go(0); $('tourDo').focus(); });
  $('tourBack').addEventListener('click', async () => { await act({ do: 'mend' }); go(at - 1); });
  $('tourNext').addEventListener('click', async () => { await act({ do: 'mend' }); go(at + 1); });
  $('tourEnd').addEventListener('click', leave);
  $('tourDo').addEventListener('click', async () => {
    running = true;
    show();
    try {
      await STEPS[at].run();
    } finally {
      running = false;
      show();
    }
  });
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && !$('tour').hidden) leave(); });
  document.addEventListener('language', () => { if (!$('tour').hidden) show(); });
}
