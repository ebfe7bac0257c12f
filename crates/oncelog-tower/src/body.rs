//! The bodies that go in and out: what was gathered, and what is still to come.
//!
//! All of them have [`Bytes`] for data. A body that has `Bytes` already is not copied by that.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// What has come of a body so far, in one piece.
///
/// A body of one frame is kept as it came. Of several frames the bytes are copied together, so that
/// a body in a thousand pieces takes no more room than one in a single piece.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    first: Bytes,
    more: BytesMut,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Gathered {
    pub(crate) fn len(&self) -> usize {
        self.first.len().saturating_add(self.more.len())
    }

    /// Adds the next piece.
    fn push(&mut self, mut data: impl Buf) {
        if self.len() == 0 {
            self.first = data.copy_to_bytes(data.remaining());
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&mem::take(&mut self.first));
        }
        self.more.put(data);
    }

    /// All of it; trailers stay.
    pub(crate) fn take(&mut self) -> Bytes {
        if self.more.is_empty() {
            return mem::take(&mut self.first);
        }
        mem::take(&mut self.more).freeze()
    }
}

/// How far a body has come.
pub(crate) enum Step<E> {
    /// A frame was added.
    Data,
    /// It has more bytes than are taken; what came is gathered.
    Over,
    /// It is complete.
    End,
    /// It failed.
    Failed(E),
}

/// Takes the next frame of a body.
pub(crate) fn poll_gather<B: Body>(
    body: Pin<&mut B>,
    gathered: &mut Gathered,
    bytes_max: usize,
    context: &mut Context<'_>,
) -> Poll<Step<B::Error>> {
    let frame = match ready!(body.poll_frame(context)) {
        None => return Poll::Ready(Step::End),
        Some(Err(error)) => return Poll::Ready(Step::Failed(error)),
        Some(Ok(frame)) => frame,
    };
    let frame = match frame.into_data() {
        Ok(data) => {
            gathered.push(data);
            let over = gathered.len() > bytes_max;
            return Poll::Ready(if over { Step::Over } else { Step::Data });
        }
        Err(frame) => frame,
    };
    if let Ok(trailers) = frame.into_trailers() {
        gathered.trailers.get_or_insert_default().extend(trailers);
    }
    Poll::Ready(Step::Data)
}

pin_project! {
    /// The body that the handler gets: what was read for the fingerprint, or what comes in.
    #[project = RequestProjection]
    pub struct RequestBody<B> {
        #[pin]
        content: Request<B>,
    }
}

pin_project! {
    #[project = ContentProjection]
    enum Request<B> {
        Read { data: Option<Bytes>, trailers: Option<HeaderMap> },
        Passing { #[pin] body: B },
    }
}

impl<B> RequestBody<B> {
    pub(crate) fn read(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let data = Some(data).filter(|data| !data.is_empty());
        Self { content: Request::Read { data, trailers } }
    }

    pub(crate) fn passing(body: B) -> Self {
        Self { content: Request::Passing { body } }
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().content.project() {
            ContentProjection::Read { data, trailers } => Poll::Ready(next(data, trailers)),
            ContentProjection::Passing { body } => poll_passing(body, context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Request::Read { data, trailers } => data.is_none() && trailers.is_none(),
            Request::Passing { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Request::Read { data, .. } => exactly(data.as_ref()),
            Request::Passing { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passing = matches!(self.content, Request::Passing { .. });
        f.debug_struct("RequestBody").field("passing", &passing).finish_non_exhaustive()
    }
}

pin_project! {
    /// The body that the client gets: the handler's own, or one that the layer has as a whole.
    pub struct ResponseBody<B: Body> {
        #[pin]
        content: Response<B>,
    }
}

pin_project! {
    #[project = ResponseProjection]
    enum Response<B: Body> {
        Whole { data: Option<Bytes>, trailers: Option<HeaderMap> },
        Passing { #[pin] body: B },
        // Gathered in part, when it was found to be too long or failed.
        Rest { data: Option<Bytes>, trailers: Option<HeaderMap>, rest: Rest<B> },
    }
}

/// What follows the part that was gathered.
pub(crate) enum Rest<B: Body> {
    Body(Pin<Box<B>>),
    Failure(Option<B::Error>),
}

impl<B: Body> ResponseBody<B> {
    pub(crate) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let data = Some(data).filter(|data| !data.is_empty());
        Self { content: Response::Whole { data, trailers } }
    }

    pub(crate) fn passing(body: B) -> Self {
        Self { content: Response::Passing { body } }
    }

    pub(crate) fn rest(mut gathered: Gathered, rest: Rest<B>) -> Self {
        let data = Some(gathered.take()).filter(|data| !data.is_empty());
        Self { content: Response::Rest { data, trailers: gathered.trailers, rest } }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().content.project() {
            ResponseProjection::Whole { data, trailers } => Poll::Ready(next(data, trailers)),
            ResponseProjection::Passing { body } => poll_passing(body, context),
            ResponseProjection::Rest { data, trailers, rest } => {
                if let Some(frame) = next(data, trailers) {
                    return Poll::Ready(Some(frame));
                }
                match rest {
                    Rest::Body(body) => poll_passing(body.as_mut(), context),
                    Rest::Failure(error) => Poll::Ready(error.take().map(Err)),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Response::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Response::Passing { body } => body.is_end_stream(),
            Response::Rest { data, trailers, rest } => {
                let gathered = data.is_none() && trailers.is_none();
                gathered && matches!(rest, Rest::Body(body) if body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Response::Whole { data, .. } => exactly(data.as_ref()),
            Response::Passing { body } => body.size_hint(),
            Response::Rest { data, rest, .. } => {
                let before = data.as_ref().map_or(0, |data| data.len() as u64);
                let Rest::Body(body) = rest else { return SizeHint::new() };
                let hint = body.size_hint();
                let mut total = SizeHint::new();
                if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(before)) {
                    total.set_upper(upper);
                }
                total.set_lower(hint.lower().saturating_add(before));
                total
            }
        }
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = matches!(self.content, Response::Whole { .. });
        f.debug_struct("ResponseBody").field("whole", &whole).finish_non_exhaustive()
    }
}

fn next<E>(
    data: &mut Option<Bytes>,
    trailers: &mut Option<HeaderMap>,
) -> Option<Result<Frame<Bytes>, E>> {
    let frame = data.take().map(Frame::data);
    frame.or_else(|| trailers.take().map(Frame::trailers)).map(Ok)
}

fn poll_passing<B: Body>(
    body: Pin<&mut B>,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    let frame = ready!(body.poll_frame(context));
    let bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
    Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(bytes))))
}

fn exactly(data: Option<&Bytes>) -> SizeHint {
    SizeHint::with_exact(data.map_or(0, |data| data.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::Gathered;
    use bytes::Bytes;

    #[test]
    fn a_body_of_one_frame_is_not_copied_and_pieces_are_put_together() {
        let mut gathered = Gathered::default();
        let data = Bytes::from(vec![7; 100]);
        gathered.push(data.clone());
        assert_eq!(gathered.take().as_ptr(), data.as_ptr());
        assert_eq!(gathered.len(), 0);
        for piece in ["a", "", "bc", "d"] {
            gathered.push(piece.as_bytes());
        }
        assert_eq!((gathered.len(), gathered.take()), (4, Bytes::from_static(b"abcd")));
    }
}
