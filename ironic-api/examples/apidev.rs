//! The API on a throw-away store with a conductor that only pretends: `cargo run -p ironic-api --example apidev -- 127.0.0.1:6385`.

use std::{sync::Arc, time::Duration};

#[path = "../tests/fake/mod.rs"]
mod fake;

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6385".to_owned());
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = fake::store(dir.path()).await;
    let conductor = Arc::new(fake::FakeConductor::new(store.clone(), Duration::from_millis(60)));
    let config = ironic_api::ApiConfig { hardware: fake::catalogue(), ..ironic_api::ApiConfig::default() };
    let listener = tokio::net::TcpListener::bind(&address).await.expect("the address is free");
    eprintln!("API at http://{address}");
    axum::serve(listener, ironic_api::router(config, store, conductor)).await.expect("the server runs");
}
