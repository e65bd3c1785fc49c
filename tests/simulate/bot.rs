//! The bot that holds dialogs outside the working hours.

use std::sync::Mutex;

use maxchannel::transport::{Request, Response};
use serde_json::{Value, json};

use crate::plan::Mood;

/// One answer of the bot's.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whom it is for.
    pub sender: String,
    pub token: String,
    pub at: tokio::time::Instant,
    /// It ended the dialog.
    pub closes: bool,
}

pub struct Bot {
    pub mood: Mutex<Mood>,
    pub answers: Mutex<Vec<Answer>>,
}

impl Bot {
    pub fn new() -> Self {
        Self { mood: Mutex::new(Mood::Answers), answers: Mutex::default() }
    }

    pub async fn call(&self, request: Request) -> Response {
        let mood = *self.mood.lock().unwrap();
        let asked: Value = serde_json::from_slice(request.body()).unwrap();
        let (status, body) = match mood {
            Mood::Answers | Mood::HandsOver | Mood::Closes => {
                let word = match mood {
                    Mood::HandsOver => Some("handOver"),
                    Mood::Closes => Some("close"),
                    _ => None,
                };
                let mut answers = self.answers.lock().unwrap();
                let token = format!("бот-{:03}", answers.len() + 1);
                let mut body = vec![json!({"text": token})];
                body.extend(word.map(|word| json!({"custom": {"maxchannel": word}})));
                answers.push(Answer {
                    sender: asked["sender"].as_str().unwrap().to_owned(),
                    token,
                    at: tokio::time::Instant::now(),
                    closes: mood == Mood::Closes,
                });
                (200, json!(body).to_string())
            }
            Mood::Hangs => std::future::pending().await,
            Mood::Fails => (500, String::new()),
            Mood::Busy => (503, String::new()),
            Mood::Odd => (200, "{\"text\": 7".to_owned()),
        };
        let mut answer = http::Response::builder().status(status).header("Content-Type", "application/json");
        if mood == Mood::Busy {
            answer = answer.header("Retry-After", "20");
        }
        answer.body(body.into()).unwrap()
    }
}
