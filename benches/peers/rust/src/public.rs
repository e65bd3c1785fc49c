//! A bot on the public Rust client `maxoxide` that forwards each message to the CRM, as its
//! documents suggest.

#![forbid(unsafe_code)]

mod crm;

use maxoxide::types::Update;
use maxoxide::webhook::{WebhookService, axum_adapter};
use maxoxide::{Bot, Context, Dispatcher};

use crm::{Crm, Failure, setting};

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let crm = Crm::sign_in().await?;
    let bot = Bot::builder(setting("TOKEN")?).base_url(setting("MAX_URL")?).no_proxy().build()?;
    let mut dispatcher = Dispatcher::new(bot);
    dispatcher.on_message(move |context: Context| {
        let crm = crm.clone();
        async move {
            if let Update::MessageCreated { message, .. } = &context.update {
                let Some(sender) = &message.sender else { return Ok(()) };
                let text = message.text().unwrap_or_default();
                let forwarded = crm
                    .forward(&message.body.mid, sender.user_id, &sender.first_name, message.timestamp, text)
                    .await;
                if let Err(error) = forwarded {
                    eprintln!("not forwarded: {error}");
                }
            }
            Ok(())
        }
    });
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{}", setting("PORT")?)).await?;
    let router = axum_adapter::router(WebhookService::new(dispatcher).secret(setting("SECRET")?)?, "/hook")?;
    axum::serve(listener, router).await?;
    Ok(())
}
