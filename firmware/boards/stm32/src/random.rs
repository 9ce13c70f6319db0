//! The random number generator.

use core::cell::RefCell;

use critical_section::Mutex;
use embassy_stm32::{peripherals::RNG, rng::Rng};

/// The generator, once it runs.
static RANDOM: Mutex<RefCell<Option<Rng<'static, RNG>>>> = Mutex::new(RefCell::new(None));

/// Keeps the running generator for [`random`].
pub fn start_random(generator: Rng<'static, RNG>) {
    critical_section::with(|section| RANDOM.borrow(section).replace(Some(generator)));
}

/// A random number.
///
/// # Panics
/// If there is no generator yet.
#[must_use]
pub fn random() -> u64 {
    critical_section::with(|section| match RANDOM.borrow(section).borrow_mut().as_mut() {
        Some(random) => random.next_u64(),
        None => defmt::panic!("the random number generator is not running yet"),
    })
}
