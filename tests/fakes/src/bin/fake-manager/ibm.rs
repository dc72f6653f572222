//! IBM Cloud: IAM and Secrets Manager at one address.

use std::fs;
use std::io::{Read, stdin};

use edge_secrets_fakes::Server;
use edge_secrets_fakes::ibm::Ibm;
use serde_json::json;

use super::Options;

pub(super) async fn serve(options: Options) {
    let server = Server::start_at(Ibm::new(API_KEY), options.listen).await;
    fs::write(options.dir.join("ca.pem"), server.pki().certificate()).expect("ca.pem");
    println!("{}", json!({ "url": server.url(), "api_key": API_KEY }));
    let wait = || stdin().read_to_end(&mut Vec::new()).expect("input");
    tokio::task::spawn_blocking(wait).await.expect("its end");
}

const API_KEY: &str = "fake-api-key";
