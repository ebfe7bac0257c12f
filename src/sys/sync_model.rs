//! Locks and atomics of a model checker in the shape of the engine's, to try orders of steps.
//!
//! Compiled for the unit tests under `--cfg oncelog_shuttle` alone. Each use of a lock or an atomic
//! integer is a moment at which the checker may let another thread go on. All orders that it tries
//! are sequentially consistent: a missing fence does not show, a missing check does. A wait ends by
//! a wake-up only, never by its time: a wake-up that was lost shows as a deadlock, which the
//! checker reports.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

pub(crate) use shuttle::thread_local;

use crate::sys::order_model::Class;

/// A moment at which another thread may go on. Outside of a model nothing happens.
fn step() {
    let inside = shuttle::current::try_get_current_task().is_some();
    if inside && !std::thread::panicking() {
        // Of an integer that nobody else knows: all it does is to let the checker decide.
        let nothing = shuttle::sync::atomic::AtomicBool::new(false);
        nothing.load(std::sync::atomic::Ordering::SeqCst);
    }
}

/// One thread does everything, as those of the system are not the model's.
pub(crate) fn processors() -> usize {
    1
}

/// Atomic integers that have the layout of the standard library's, so that they can lie in mapped
/// memory; the model checker's own cannot.
pub(crate) mod atomic {
    use std::sync::atomic as real;

    pub(crate) use std::sync::atomic::Ordering;

    use super::step;

    /// Orders are all the same here.
    pub(crate) fn fence(_order: Ordering) {}

    macro_rules! integer {
        ($name:ident, $value:ty) => {
            /// As the type of the same name in the standard library.
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub(crate) struct $name(real::$name);

            #[expect(dead_code, reason = "not each type is used in each way")]
            impl $name {
                pub(crate) const fn new(value: $value) -> Self {
                    Self(real::$name::new(value))
                }

                pub(crate) fn load(&self, _order: Ordering) -> $value {
                    step();
                    self.0.load(Ordering::SeqCst)
                }

                pub(crate) fn store(&self, value: $value, _order: Ordering) {
                    step();
                    self.0.store(value, Ordering::SeqCst);
                }

                pub(crate) fn swap(&self, value: $value, _order: Ordering) -> $value {
                    step();
                    self.0.swap(value, Ordering::SeqCst)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    _success: Ordering,
                    _failure: Ordering,
                ) -> Result<$value, $value> {
                    step();
                    self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
                }

                pub(crate) fn fetch_update(
                    &self,
                    _set: Ordering,
                    _fetch: Ordering,
                    change: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    step();
                    self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change)
                }
            }
        };
    }

    macro_rules! number {
        ($name:ident, $value:ty) => {
            integer!($name, $value);

            impl $name {
                pub(crate) fn fetch_add(&self, value: $value, _order: Ordering) -> $value {
                    step();
                    self.0.fetch_add(value, Ordering::SeqCst)
                }

                pub(crate) fn fetch_sub(&self, value: $value, _order: Ordering) -> $value {
                    step();
                    self.0.fetch_sub(value, Ordering::SeqCst)
                }
            }
        };
    }

    integer!(AtomicBool, bool);
    integer!(AtomicU8, u8);
    number!(AtomicU32, u32);
    number!(AtomicU64, u64);
    number!(AtomicUsize, usize);

    impl AtomicUsize {
        pub(crate) fn fetch_max(&self, value: usize, _order: Ordering) -> usize {
            step();
            self.0.fetch_max(value, Ordering::SeqCst)
        }
    }

    impl AtomicU64 {
        pub(crate) fn fetch_or(&self, value: u64, _order: Ordering) -> u64 {
            step();
            self.0.fetch_or(value, Ordering::SeqCst)
        }

        pub(crate) fn fetch_min(&self, value: u64, _order: Ordering) -> u64 {
            step();
            self.0.fetch_min(value, Ordering::SeqCst)
        }

        pub(crate) fn fetch_max(&self, value: u64, _order: Ordering) -> u64 {
            step();
            self.0.fetch_max(value, Ordering::SeqCst)
        }
    }
}

/// As `parking_lot::Mutex`, without poisoning; and it knows its place in the order of locks.
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    inner: shuttle::sync::Mutex<T>,
    class: Class,
}

/// The inner guard is away only while its holder waits.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    inner: Option<shuttle::sync::MutexGuard<'a, T>>,
    class: Class,
    /// Where its lock lies in memory.
    at: usize,
}

impl<T> Mutex<T> {
    #[track_caller]
    pub(crate) fn new(value: T) -> Self {
        let class = Class::new(std::any::type_name::<T>());
        Self { inner: shuttle::sync::Mutex::new(value), class }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let at = std::ptr::from_ref(self).addr();
        self.class.about_to_lock(at);
        self.class.locked(at);
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { inner: Some(inner), class: self.class, at }
    }

    pub(crate) fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock().ok()?;
        // Who does not wait cannot be part of a deadlock by taking it.
        let at = std::ptr::from_ref(self).addr();
        self.class.locked(at);
        Some(MutexGuard { inner: Some(inner), class: self.class, at })
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.class.unlocked(self.at);
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_deref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_deref_mut().unwrap()
    }
}

/// As `parking_lot::Condvar`.
#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(inner) = guard.inner.take() {
            guard.inner = Some(self.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
        }
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _pause: Duration) {
        self.wait(guard);
    }
}

fn config() -> shuttle::Config {
    let mut config = shuttle::Config::new();
    config.stack_size = 512 << 10;
    config.silence_warnings = true;
    config.max_steps = shuttle::MaxSteps::None;
    config
}

/// Runs a model of one thread, which has one order of steps.
pub(crate) fn once(model: impl Fn() + Send + Sync + 'static) {
    let scheduler = shuttle::scheduler::RandomScheduler::new(1);
    shuttle::Runner::new(scheduler, config()).run(model);
}

/// Tries so many orders of the model's steps, half of them at random and half with few changes of
/// thread. `ONCELOG_MODEL_TIMES` multiplies them.
pub(crate) fn check(orders: usize, model: impl Fn() + Send + Sync + 'static) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    let times = std::env::var("ONCELOG_MODEL_TIMES").ok().and_then(|times| times.parse().ok());
    let half = (orders / 2).max(1) * times.unwrap_or(1);
    let model = std::sync::Arc::new(model);
    let same = model.clone();
    shuttle::Runner::new(RandomScheduler::new(half), config()).run(move || same());
    shuttle::Runner::new(PctScheduler::new(3, half), config()).run(move || model());
}
