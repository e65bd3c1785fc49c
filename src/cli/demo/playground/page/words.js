// Every word of the page, in both languages. Words of conditions come from the program.

const WORDS = {
  playground: ['playground', 'площадка'],
  skip: ['To the content', 'К содержанию'],
  views: ['Views', 'Разделы'],
  tabStage: ['Stage', 'Сцена'],
  tabManifest: ['Manifest', 'Манифест'],
  tabRules: ['Rules', 'Правила'],
  tabInstall: ['In your Creatio', 'В вашем Creatio'],
  tour: ['Guided tour', 'Экскурсия'],
  back: ['Back', 'Назад'], next: ['Next', 'Дальше'], showMe: ['Show me', 'Показать'], endTour: ['End the tour', 'Закончить'],
  step: ['Step', 'Шаг'], of: ['of', 'из'],
  linked: ['live', 'на связи'], lost: ['the program does not answer; trying again', 'программа не отвечает, пробуем снова'],
  phonesTitle: ['Customers’ phones: MAX', 'Телефоны клиентов: MAX'],
  relayTitle: ['Between them: the relay', 'Между ними: ретранслятор'],
  deskTitle: ['Agents’ desk: Creatio', 'Рабочее место операторов: Creatio'],
  mangoTitle: ['The account: MANGO OFFICE', 'Кабинет: MANGO OFFICE'],
  conditionsTitle: ['How the channel stands', 'Как чувствует себя канал'],
  faultsTitle: ['Break something', 'Сломайте что-нибудь'],
  outages: ['Around the channel', 'Вокруг канала'], errors: ['Documented errors 1–7', 'Описанные ошибки 1–7'],
  mend: ['Mend everything', 'Всё починить'],
  answerAs: ['You answer as', 'Вы отвечаете как'],
  dialogs: ['Dialogs', 'Диалоги'], conversation: ['Conversation', 'Переписка'],
  accept: ['Accept', 'Принять'], transfer: ['Transfer to the other agent', 'Передать другому оператору'], close: ['Close', 'Завершить'],
  answer: ['Answer of the agent', 'Ответ оператора'], message: ['Message of the customer', 'Сообщение клиента'],
  file: ['File', 'Файл'], send: ['Send', 'Отправить'], start: ['Press Start', 'Нажать «Начать»'],
  noDialogs: ['No dialogs yet: write something on a phone.', 'Диалогов пока нет: напишите что-нибудь с телефона.'],
  replay: ['Try dead letters again', 'Отправить недоставленное снова'],
  toCrm: ['waits for the CRM', 'ждёт CRM'], toMax: ['waits for MAX', 'ждёт MAX'], delivered: ['answers delivered', 'ответов доставлено'],
  pending: ['answers on their way', 'ответов в пути'], dead: ['dead letters', 'не доставлено'], oldest: ['oldest waits', 'старейшее ждёт'],
  open: ['open dialogs', 'открытых диалогов'], running: ['the relay', 'ретранслятор'], up: ['runs', 'работает'], down: ['does not run', 'не работает'],
  seconds: ['s', 'с'], subscription: ['subscription in MAX', 'подписка в MAX'], clock: ['the relay’s clock', 'часы ретранслятора'], atWork: ['working hours', 'рабочее время'], shut: ['closed', 'нерабочее время'], yes: ['there', 'есть'], no: ['none', 'нет'],
  cause: ['Cause', 'Причина'], remedy: ['Remedy', 'Решение'], who: ['Who mends it', 'Кто чинит'], detail: ['Detail', 'Подробно'],
  error: ['documented error', 'ошибка'],
  unknown: ['The runner does not answer: nobody knows how the channel stands. MAX and Creatio keep what comes meanwhile.',
    'Программа не отвечает: состояние канала неизвестно. Всё, что приходит, пока хранят MAX и Creatio.'],
  inGroup: ['in the group', 'в группе'], file1: ['file', 'файл'], buttons: ['Buttons of the bot', 'Кнопки бота'],
  pendingOne: ['on its way', 'в пути'], deliveredOne: ['delivered', 'доставлено'], failedOne: ['not delivered', 'не доставлено'], uncertainOne: ['uncertain', 'неизвестно'],
  chat_waiting: ['waits', 'ждёт'], chat_progress: ['in progress', 'в работе'], chat_bot: ['with the bot', 'у бота'], chat_over: ['is over', 'завершён'],
  newChat: ['new dialog', 'новый диалог'], edited: ['edited', 'изменено'],
  in: ['in', 'через'],
  manifestTitle: ['The manifest of this channel', 'Манифест этого канала'],
  manifestHelp: ['This is the real file. Change it: what check finds stands at the line, and what is right is applied at once. Switches on the stage write here, too.',
    'Это настоящий файл. Меняйте его: замечания check стоят у строки, а правильное применяется сразу. Переключатели сцены тоже пишут сюда.'],
  findingsEnglish: ['', 'Замечания check программа пишет по-английски.'],
  firstManifest: ['Back to the first version', 'Вернуть первую версию'],
  appliedYes: ['Applied.', 'Применено.'], appliedNo: ['Not applied: the last right version stays in force.', 'Не применено: действует последняя правильная версия.'],
  line: ['line', 'строка'],
  rulesTitle: ['What would be sent, when and why', 'Что будет отправлено, когда и почему'],
  rulesHelp: ['The rules of the manifest, played in simulated time. Nothing is sent.', 'Правила манифеста в придуманном времени. Ничего не отправляется.'],
  begins: ['The dialog begins', 'Диалог начинается'], story: ['What happens', 'Что происходит'],
  remember: ['Compare later versions with this one', 'Сравнивать следующие версии с этой'], forget: ['Stop comparing', 'Не сравнивать'],
  weekTitle: ['The week', 'Неделя'], timelineTitle: ['The dialog', 'Диалог'],
  always: ['No working hours are set: always open.', 'Рабочее время не задано: открыто всегда.'],
  holidayWord: ['closed', 'закрыто'],
  when: ['When', 'Когда'], what: ['What', 'Что'], text: ['Text', 'Текст'], why: ['Why', 'Почему'],
  added: ['new', 'новое'], gone: ['no longer', 'больше нет'], then: ['Then', 'Затем'],
  story1: ['The customer writes, nobody answers', 'Клиент пишет, никто не отвечает'],
  story2: ['The customer writes, an agent answers after 2 min and closes', 'Клиент пишет, оператор отвечает через 2 мин и завершает'],
  story3: ['The customer presses start and writes after 10 min', 'Клиент нажимает «Начать» и пишет через 10 мин'],
  story4: ['The bot takes it and hands over after 1 min', 'Бот отвечает и передаёт оператору через 1 мин'],
  installTitle: ['The package in your Creatio', 'Пакет в вашем Creatio'],
  install1: ['Here the other side is a simulator. Your own Creatio needs the package MaxChannel: without it an agent’s answer never leaves the CRM, and the condition CrmConnected says PackageMissing; an older one is PackageOutdated.',
    'Здесь с той стороны симулятор. Вашему Creatio нужен пакет MaxChannel: без него ответ оператора не покинет CRM, и условие CrmConnected говорит PackageMissing, а о старой версии PackageOutdated.'],
  install2: ['Let the program install it: put an administrator’s credentials into a Secret beside the manifests, for this one command only.',
    'Установит сама программа: положите данные администратора в Secret рядом с манифестами, только для этой команды.'],
  install3: ['It uploads, backs up, installs, shows the site’s log, restarts the site and waits until the new version answers. Choose a quiet hour: a restart signs everybody out; messages wait. By hand: write the file and install it in the Application Hub of Creatio.',
    'Она загружает пакет, делает копию, ставит, показывает журнал сайта, перезапускает его и ждёт ответа новой версии. Выберите тихий час: перезапуск завершает все сеансы, сообщения подождут. Вручную: запишите файл и установите его в «Управление приложениями» Creatio.'],
  install4: ['See what the channel says without the package, and with an old one:', 'Посмотрите, что скажет канал без пакета и со старым:'],
  tryMissing: ['Take the package away', 'Убрать пакет'], tryOutdated: ['Put an old one there', 'Поставить старый'], tryRight: ['Install the right one', 'Установить нужный'],
  fault_crmDown: ['Creatio is down', 'Creatio не работает'], fault_crmSlow: ['Creatio is slow (4 s)', 'Creatio отвечает медленно (4 с)'],
  fault_answersCut: ['The next answers of MAX and Creatio are lost', 'Следующие ответы MAX и Creatio теряются'],
  fault_relayKilled: ['The relay is killed (kill -9)', 'Ретранслятор убит (kill -9)'],
  fault_subscriptionLost: ['MAX has dropped the subscription', 'MAX потерял подписку'],
  fault_packageMissing: ['The package is missing in Creatio', 'В Creatio нет пакета'], fault_packageOutdated: ['The package is old', 'Пакет старый'],
  fault_botTakesDialogs: ['A bot takes the dialogs', 'Диалоги принимает бот'], fault_botAway: ['The bot is away', 'Бот недоступен'],
  fault_evening: ['It is evening: the working day is over', 'Вечер: рабочий день закончился'], fault_holiday: ['It is a holiday', 'Праздничный день'],
  fault_tokenNotFound: ['1: the token is missing', '1: нет токена'], fault_tokenInvalid: ['2: the token is revoked', '2: токен отозван'],
  fault_botUnderModeration: ['3: the bot is under moderation', '3: бот на модерации'],
  fault_legalEntityAccessDenied: ['4: the company is not let in', '4: юрлицу закрыт доступ'],
  fault_authorizationFailed: ['5: authorization failed', '5: ошибка авторизации'],
  fault_receiverNotSelected: ['6: nobody takes dialogs', '6: не выбран получатель'],
  fault_autoRepliesNotConfigured: ['7: no auto-replies', '7: нет автоответов'],
  note_subscriptionLost: ['mends itself within a minute', 'чинится сам в течение минуты'],
  note_crmSlow: ['shown as a backlog after a minute', 'через минуту видно как очередь'],
  note_answersCut: ['looked for before anything is sent again', 'сначала ищем, потом шлём снова'],
  note_relayKilled: ['MAX and Creatio keep everything', 'всё хранят MAX и Creatio'],
  note_evening: ['moves the relay’s clock', 'переводит часы ретранслятора'],
  note_holiday: ['moves the relay’s clock', 'переводит часы ретранслятора'],
  note_botAway: ['first let it take the dialogs', 'сначала отдайте ему диалоги'],
  phase_idle: ['no dialog', 'диалога нет'], phase_started: ['has started', 'начат'], phase_withBot: ['with the bot', 'у бота'],
  phase_waiting: ['waits for an agent', 'ждёт оператора'], phase_served: ['an agent has it', 'у оператора'], phase_closing: ['is being closed', 'закрывается'],
  phase_left: ['the customer has left', 'клиент ушёл'],
  what_autoReply: ['auto-reply', 'автоответ'], what_closeMessage: ['close message', 'прощание'], what_message: ['message to the CRM', 'сообщение в CRM'],
  what_starts: ['the customer presses start', 'клиент нажимает «Начать»'], what_writes: ['the customer writes', 'клиент пишет'],
  what_accepts: ['an agent accepts', 'оператор принимает'], what_answers: ['answer', 'ответ'], what_transfers: ['an agent transfers', 'оператор передаёт'],
  what_closes: ['the dialog is closed by hand', 'диалог завершают'], what_ask: ['the bot is asked', 'вопрос боту'], what_botAnswer: ['the bot’s answer', 'ответ бота'],
  what_handOver: ['agents are called', 'вызов операторов'], what_handsOver: ['the bot hands over', 'бот передаёт'], what_history: ['the history', 'история'],
  what_nothing: ['nothing', 'ничего'], what_closeChat: ['the chat is closed', 'чат закрывается'], what_customerLeft: ['a note in the chat', 'заметка в чате'],
  to_customer: ['to the customer', 'клиенту'], to_crm: ['to the CRM', 'в CRM'], to_agent: ['to the agent', 'оператору'], to_bot: ['to the bot', 'боту'],
  days: ['Mon,Tue,Wed,Thu,Fri,Sat,Sun', 'Пн,Вт,Ср,Чт,Пт,Сб,Вс'],
};

// The rules give their reasons in English.
const REASONS = [
  [/^(\S+): repetition (\d+) of (\d+), (\S+) after (.+)$/, '$1: повтор $2 из $3, через $4 после: $5'],
  [/^(\S+): due (\S+) after (.+)$/, '$1: через $2 после: $3'],
  [/the working hours began/, 'начала рабочего времени'], [/the working hours ended/, 'конца рабочего времени'],
  [/the bot handed over/, 'передачи от бота'], [/the appeal/, 'обращения'], [/; no agent has answered/, '; оператор не ответил'],
  [/, (\S+) late/, ', с опозданием $1'],
  [/^to the agents, outside the working hours$/, 'операторам, вне рабочего времени'], [/^to the agents: the bot does not hold the dialog$/, 'операторам: диалог не у бота'],
  [/^to the agents$/, 'операторам'], [/^an agent has the dialog$/, 'диалог у оператора'],
  [/^the off-hours bot is not there: to the agents$/, 'бота нерабочего времени нет: операторам'],
  [/^no receiver is chosen.*$/, 'получатель не выбран (ошибка 6): хранится, пока его не выберут'],
  [/^closeMessage: an agent has closed the dialog$/, 'closeMessage: оператор завершил диалог'], [/^closeMessage: the dialog has been closed$/, 'closeMessage: диалог завершён'],
  [/^closeMessage: the bot has closed the dialog$/, 'closeMessage: бот завершил диалог'],
  [/^autoClose: no message from either side for (.+)$/, 'autoClose: обе стороны молчали $1'],
  [/^the customer has written: what was shown so far, (\d+) in number, with its times$/, 'клиент написал: показанное до сих пор ($1), со своим временем'],
  [/^the customer has written nothing: what was shown stays out of the history$/, 'клиент ничего не написал: показанное в историю не входит'],
  [/^(\S+) holds the dialog$/, 'диалог у $1'], [/^the bot holds the dialog$/, 'диалог у бота'],
  [/^(.*): the agents are called$/, '$1: вызваны операторы'], [/^the bot did not answer in time/, 'бот не ответил вовремя'], [/^the bot wants an agent/, 'бот зовёт оператора'], [/^the bot is away/, 'бот недоступен'],
  [/^for the history; the chat stands by while the bot holds the dialog$/, 'для истории: чат ждёт, пока диалог у бота'],
  [/^there is no chat to do it in: without effect$/, 'чата ещё нет: без последствий'], [/^the dialog is over$/, 'диалог завершён'],
  [/^the bot has closed the dialog$/, 'бот завершил диалог'], [/^an edit of an earlier message$/, 'правка прежнего сообщения'],
  [/^the customer has left, and only the bot was there$/, 'клиент ушёл, с ним был только бот'], [/^the customer has stopped the bot: nothing more is sent$/, 'клиент остановил бота: больше ничего не отправляется'],
];

let russian = false;

export function setLanguage(code) {
  russian = code === 'ru';
  document.documentElement.lang = code;
}

export const language = () => (russian ? 'ru' : 'en');

export function t(key) {
  const words = WORDS[key];
  return words ? words[russian ? 1 : 0] : key;
}

export const has = (key) => key in WORDS;

/** A reason that the rules give, in the reader's language. */
export function reason(text) {
  if (!russian) return text;
  let told = text;
  for (const [from, to] of REASONS) told = told.replace(from, to);
  return told;
}

/** Puts the words into everything that has a place for them. */
export function fillIn() {
  for (const one of document.querySelectorAll('[data-word]')) one.textContent = t(one.dataset.word);
  for (const one of document.querySelectorAll('[data-label]')) one.setAttribute('aria-label', t(one.dataset.label));
}
