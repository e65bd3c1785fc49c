//! Spans on their way to a collector.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;

use crate::company::{Company, TOKEN};

/// What a collector was sent: path and body.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Bytes)>>>);

impl Collector {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .fallback(|State(Self(seen)): State<Self>, uri: Uri, body: Bytes| async move {
                seen.lock().unwrap().push((uri.path().to_owned(), body));
            })
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    /// Texts stand in protobuf as they are.
    fn has(&self, text: &str) -> bool {
        let seen = self.0.lock().unwrap();
        seen.iter().any(|(_, body)| body.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_calls_and_deliveries_reach_the_collector_without_a_token_or_a_text() {
    let collector = Collector::default();
    let mut company = Company::new(true).await;
    company.env.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector.start().await));
    // What is left at the end shows that the end sends it: by itself the exporter would wait
    // longer.
    company.env.push(("OTEL_BSP_SCHEDULE_DELAY", "3600000".to_owned()));
    company.env.push(("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=a-test".to_owned()));
    company.start();
    company.until_ready().await;
    let anna = company.customer("Анна CANARY");
    company.say(&anna, "Здравствуйте CANARY-TEXT");
    let chat = company.accept(&anna).await;
    company.crm.control().send(chat, company.agent, "Слушаю вас CANARY-ANSWER", Vec::new()).unwrap();
    company.until("the answer is shown", async || (company.seen(&anna).len() == 1).then_some(())).await;
    company.ask_to_stop();
    assert_eq!(company.ended().await, Some(0));
    for text in
        ["pass", "call", "delivery", "to", "taken", "sent", "support", "service.name", "a-test", "http.request.method"]
    {
        assert!(collector.has(text), "{text} has not come");
    }
    for text in [TOKEN, "CANARY", "Анна"] {
        assert!(!collector.has(text), "{text} was exported");
    }
    assert!(collector.0.lock().unwrap().iter().all(|(path, _)| path == "/v1/traces"));
    let log = company.log();
    assert!(log.contains("trace_id="), "no line leads to a trace");
    assert!(!log.contains("CANARY"), "the log shows a token or a text");
}
