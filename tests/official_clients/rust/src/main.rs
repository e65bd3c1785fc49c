//! A conversation between customers of the simulator and a bot built on the public Rust client
//! `maxoxide`.
//!
//! usage: `MAX_URL=http://127.0.0.1:8701 public-max-client polling|webhook`
//!
//! The bot answers through the client; the customers act through the control of the simulator, and
//! what they see is what is asserted.

#![forbid(unsafe_code)]

use std::time::Duration;

use maxoxide::types::{AnswerCallbackBody, Button, KeyboardPayload, NewMessageBody, SubscribeBody, Update};
use maxoxide::webhook::{WebhookService, axum_adapter};
use maxoxide::{Bot, Context, Dispatcher};
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error>;

const LONG: Duration = Duration::from_secs(20);

struct Simulator {
    client: reqwest::Client,
    url: String,
}

impl Simulator {
    async fn control(&self, method: &str, path: &str, body: Value) -> Result<Value, Failure> {
        let request = self.client.request(method.parse()?, format!("{}/control{path}", self.url)).json(&body);
        let answer = request.send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        if status.is_success() { Ok(answer) } else { Err(format!("{method} {path}: {status} {answer}").into()) }
    }

    async fn transcript(&self, user: i64, bot: i64, at_least: usize) -> Result<Value, Failure> {
        let path = format!("/transcript?user={user}&bot={bot}&at_least={at_least}&timeout_ms=20000");
        self.control("GET", &path, json!({})).await
    }
}

fn expect(what: &str, seen: &Value, expected: Value) -> Result<(), Failure> {
    if *seen == expected { Ok(()) } else { Err(format!("{what}: {seen} instead of {expected}").into()) }
}

/// What the bot does with updates; their kinds go to `seen`.
fn dispatcher(bot: Bot, seen: mpsc::UnboundedSender<&'static str>) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(bot).poll_timeout(5);
    let tell = seen.clone();
    dispatcher.on_bot_started(move |context: Context| {
        let tell = tell.clone();
        async move {
            if let Update::BotStarted { chat_id, user, payload, .. } = &context.update {
                let text = format!("Здравствуйте, {}! {}", user.first_name, payload.clone().unwrap_or_default());
                context.bot.send_text_to_chat(*chat_id, text).await?;
                let _ = tell.send("bot_started");
            }
            Ok(())
        }
    });
    let tell = seen.clone();
    dispatcher.on_message(move |context: Context| {
        let tell = tell.clone();
        async move {
            if let Update::MessageCreated { message, .. } = &context.update {
                let text = message.text().unwrap_or_default();
                let body = NewMessageBody::text(format!("Вы написали: {text}"))
                    .with_keyboard(KeyboardPayload { buttons: vec![vec![Button::callback("Статус", "status")]] });
                context.bot.send_message_to_chat(message.chat_id(), body).await?;
                let _ = tell.send("message_created");
            }
            Ok(())
        }
    });
    let tell = seen.clone();
    dispatcher.on_callback(move |context: Context| {
        let tell = tell.clone();
        async move {
            if let Update::MessageCallback { callback, .. } = &context.update {
                let answer = AnswerCallbackBody {
                    callback_id: callback.callback_id.clone(),
                    message: None,
                    notification: Some("Заказ в пути".to_owned()),
                };
                context.bot.answer_callback(answer).await?;
                let _ = tell.send("message_callback");
            }
            Ok(())
        }
    });
    dispatcher.on_bot_stopped(move |_: Context| {
        let tell = seen.clone();
        async move {
            let _ = tell.send("bot_stopped");
            Ok(())
        }
    });
    dispatcher
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mode = std::env::args().nth(1).filter(|mode| ["polling", "webhook"].contains(&mode.as_str()));
    let (Some(mode), Ok(url)) = (mode, std::env::var("MAX_URL")) else {
        return Err("usage: MAX_URL=… public-max-client polling|webhook".into());
    };
    let simulator = Simulator { client: reqwest::Client::builder().no_proxy().build()?, url: url.clone() };
    let token = format!("EXAMPLE_rust_{mode}_{}", std::process::id());
    let created = simulator.control("POST", "/bots", json!({"name": "Служба поддержки", "token": token})).await?;
    let me = created["user_id"].as_i64().ok_or("no bot")?;
    let user = simulator.control("POST", "/users", json!({"first_name": "Анна"})).await?["user_id"].as_i64().ok_or("no user")?;

    let bot = Bot::builder(token).base_url(url).no_proxy().build()?;
    if bot.get_me().await?.user_id != me {
        return Err("GET /me names another bot".into());
    }
    let (told, mut seen) = mpsc::unbounded_channel();
    let dispatcher = dispatcher(bot.clone(), told);
    let shutdown = dispatcher.shutdown_handle();
    if mode == "polling" {
        tokio::spawn(async move {
            if let Err(error) = dispatcher.start_polling().await {
                eprintln!("polling ended: {error}");
            }
        });
    } else {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        simulator.control("POST", "/webhooks/route", json!({"host": "rust.example", "base": base})).await?;
        let router = axum_adapter::router(WebhookService::new(dispatcher).secret("secret-1")?, "/hook")?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        let subscription = SubscribeBody {
            url: "https://rust.example/hook".to_owned(),
            update_types: None,
            version: None,
            secret: Some("secret-1".to_owned()),
        };
        if !bot.subscribe(subscription).await?.success {
            return Err("the subscription was refused".into());
        }
    }

    // The dialog.
    let started = simulator.control("POST", "/dialog", json!({"user": user, "bot": me, "action": {"start": "promo_7"}})).await?;
    let chat = started["chat_id"].as_i64().ok_or("no chat")?;
    let view = simulator.transcript(user, me, 1).await?;
    expect("greeting", &view["messages"][0]["text"], json!("Здравствуйте, Анна! promo_7"))?;
    simulator.control("POST", "/write", json!({"user": user, "bot": me, "text": "Где заказ?"})).await?;
    let view = simulator.transcript(user, me, 3).await?;
    expect("echo", &view["messages"][2]["text"], json!("Вы написали: Где заказ?"))?;
    let press = json!({"user": user, "mid": view["messages"][2]["mid"], "button": {"text": "Статус"}});
    simulator.control("POST", "/press", press).await?;

    // Attachments: one kind per way of uploading.
    for (kind, bytes) in [("image", b"picture".to_vec()), ("file", vec![7; 100_000]), ("video", vec![8; 100_000]), ("audio", vec![9; 10])] {
        let before = simulator.transcript(user, me, 0).await?["messages"].as_array().map_or(0, Vec::len);
        let sent = match kind {
            "image" => bot.send_image_bytes_to_chat(chat, bytes.clone(), "a.png", "image/png", None).await,
            "file" => bot.send_file_bytes_to_chat(chat, bytes.clone(), "счёт.pdf", "application/pdf", None).await,
            "video" => bot.send_video_bytes_to_chat(chat, bytes.clone(), "a.mp4", "video/mp4", None).await,
            _ => bot.send_audio_bytes_to_chat(chat, bytes.clone(), "a.ogg", "audio/ogg", None).await,
        };
        sent.map_err(|error| format!("{kind}: {error}"))?;
        let view = simulator.transcript(user, me, before + 1).await?;
        let shown = &view["messages"][before]["attachments"][0];
        expect("kind", &shown["kind"], json!(kind))?;
        let stored = simulator.client.get(format!("{}/control/files/{}", simulator.url, shown["file"])).send().await?.bytes().await?;
        if stored != bytes {
            return Err(format!("the customer sees other bytes of the {kind}").into());
        }
    }

    // Messages afterwards, and a refusal.
    let draft = bot.send_markdown_to_chat(chat, "**Черновик**").await?;
    let mid = draft.body.mid.clone();
    if !bot.edit_message(&mid, NewMessageBody::text("Готово")).await?.success {
        return Err("the edit was refused".into());
    }
    if bot.get_message(&mid).await?.text() != Some("Готово") {
        return Err("the edit is not to be seen".into());
    }
    if !bot.delete_message(&mid).await?.success {
        return Err("the deletion was refused".into());
    }
    let stranger = simulator.control("POST", "/users", json!({"first_name": "Олег"})).await?["user_id"].as_i64().ok_or("no user")?;
    match bot.send_text_to_user(stranger, "никто").await {
        Err(error) if error.to_string().contains("Dialog not found") => {}
        other => return Err(format!("a send to a stranger: {other:?}").into()),
    }

    simulator.control("POST", "/dialog", json!({"user": user, "bot": me, "action": "stop"})).await?;
    let mut kinds = Vec::new();
    while !kinds.contains(&"bot_stopped") {
        kinds.push(tokio::time::timeout(LONG, seen.recv()).await?.ok_or("the bot has ended")?);
    }
    kinds.sort_unstable();
    expect("updates", &json!(kinds), json!(["bot_started", "bot_stopped", "message_callback", "message_created"]))?;
    let view = simulator.transcript(user, me, 0).await?;
    expect("notification", &view["notifications"][0][1], json!("Заказ в пути"))?;
    shutdown.shutdown();
    println!("public Rust client, {mode}: {}", kinds.join(", "));
    Ok(())
}
