//! Serves `oncelog_http::payments`: `payments FOLDER`, with the address in `ADDRESS`.

#[tokio::main]
async fn main() -> Result<(), oncelog_http::Trouble> {
    oncelog_http::start(oncelog_http::payments::serve).await
}
