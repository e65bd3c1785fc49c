//! MANGO OFFICE in front of a simulator that knows one key: every account is answered as that one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use maxchannel_simulator::mango;
use tokio::sync::Mutex;

#[derive(Clone)]
struct Front {
    simulator: String,
    /// The simulator's answer by path.
    answers: Arc<Mutex<HashMap<String, String>>>,
    http: reqwest::Client,
}

/// Starts it before the simulator at an address, and answers its own.
pub async fn any_account(simulator: String, at: SocketAddr) -> String {
    let front = Front { simulator, answers: Arc::default(), http: reqwest::Client::new() };
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(answer).with_state(front);
    tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
    url
}

async fn answer(State(front): State<Front>, uri: Uri, body: String) -> Response {
    let mut answers = front.answers.lock().await;
    let path = uri.path().to_owned();
    if !answers.contains_key(&path) {
        // Signed anew with the only key that the simulator knows.
        let form: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let (options, json) = (mango::Options::default(), form["json"].clone());
        let sign = mango::sign(&options.api_key, json.as_bytes(), &options.api_salt);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("vpbx_api_key", &options.api_key)
            .append_pair("sign", &sign)
            .append_pair("json", &json)
            .finish();
        let request = front.http.post(format!("{}{path}", front.simulator));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
        let answer = request.send().await.unwrap();
        if !answer.status().is_success() {
            return (StatusCode::BAD_GATEWAY, "the simulator refuses").into_response();
        }
        answers.insert(path.clone(), answer.text().await.unwrap());
    }
    ([(header::CONTENT_TYPE, "application/json")], answers[&path].clone()).into_response()
}
