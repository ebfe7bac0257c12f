//! Serves `oncelog_http::bare`: `bare FOLDER`, with the address in `ADDRESS`.

#[tokio::main]
async fn main() -> Result<(), oncelog_http::Trouble> {
    oncelog_http::start(oncelog_http::bare::serve).await
}
