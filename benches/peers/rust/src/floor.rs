//! The floor: a webhook that hands each message to the CRM and answers what came of it. No disk,
//! no order, no repeat.

#![forbid(unsafe_code)]

mod crm;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;

use crm::{Crm, Failure, setting};

async fn take(State((crm, secret)): State<(Crm, String)>, headers: HeaderMap, Json(update): Json<Value>) -> StatusCode {
    if headers.get("X-Max-Bot-Api-Secret").is_none_or(|shown| shown.as_bytes() != secret.as_bytes()) {
        return StatusCode::FORBIDDEN;
    }
    let message = &update["message"];
    let (Some(mid), Some(user)) = (message["body"]["mid"].as_str(), message["sender"]["user_id"].as_i64()) else {
        return StatusCode::OK;
    };
    let name = message["sender"]["first_name"].as_str().unwrap_or_default();
    let text = message["body"]["text"].as_str().unwrap_or_default();
    match crm.forward(mid, user, name, message["timestamp"].as_i64().unwrap_or(0), text).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::BAD_GATEWAY,
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let state = (Crm::sign_in().await?, setting("SECRET")?);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{}", setting("PORT")?)).await?;
    axum::serve(listener, axum::Router::new().route("/hook", post(take)).with_state(state)).await?;
    Ok(())
}
