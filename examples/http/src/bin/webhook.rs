//! Serves `oncelog_http::webhook`: `webhook FOLDER`, with the key of the signatures in `SECRET`.

#[tokio::main]
async fn main() -> Result<(), oncelog_http::Trouble> {
    oncelog_http::start(oncelog_http::webhook::serve).await
}
