//! What a board keeps in flash.

use core::fmt;

use embedded_storage::nor_flash::NorFlash;
use pkd_board::{Board, Unable};
use pkd_gateway::{CONFIG_LIMIT, Config, ConfigError, FlashFloors};
use static_cell::StaticCell;

use crate::{Indicators, StandardConfig, indicators::report};

/// What [`load`] read, and the indicators that it was given.
pub struct Stored<S, P> {
    /// The board.
    pub board: &'static Board,
    /// The configuration.
    pub config: &'static StandardConfig,
    /// The floors.
    pub floors: FlashFloors<S>,
    /// The LED and the watchdog.
    pub indicators: P,
}

/// Why a configuration must not be used.
#[derive(Clone, Copy, Debug)]
pub enum Rejection {
    /// It is not valid.
    Config(ConfigError),
    /// This board cannot run it.
    Board(Unable),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => why.fmt(f),
            Self::Board(why) => why.fmt(f),
        }
    }
}

/// Reads configuration and floors from flash. Does not return if the configuration must not be used on this board; then
/// the LED blinks quickly, and the log has the reason. Call it once.
///
/// # Panics
/// If the flash cannot be read, or if it is called again.
pub async fn load<S: NorFlash, P: Indicators>(
    mut flash: S,
    board: &'static Board,
    indicators: P,
) -> Stored<S, P> {
    let layout = board.flash;
    let config = match load_config(&mut flash, board) {
        Ok(config) => config,
        Err(why) => {
            report(&why, indicators, || {
                #[cfg(feature = "serial")]
                serve(&mut flash, board, &why);
            })
            .await
        }
    };
    defmt::info!("configuration OK: {} services, {} rules", config.services.len(), config.rules.len());
    say!("configuration OK: {} services, {} rules", config.services.len(), config.rules.len());
    let floors = match FlashFloors::open(flash, layout.floor, layout.floor_bytes) {
        Ok(floor) => floor,
        Err(why) => defmt::panic!("cannot read the floors: {}", defmt::Display2Format(&why)),
    };
    Stored { board, config, floors, indicators }
}

/// The serial line of a board without a valid configuration.
#[cfg(feature = "serial")]
fn serve(flash: &mut impl NorFlash, board: &Board, why: &Rejection) {
    use core::fmt::Write as _;
    let mut buffer = [0; CONFIG_LIMIT];
    crate::desk::serve(flash, board, &mut buffer, |answer| {
        write!(answer, "{}: configuration rejected, forwarding nothing: {why}", board.name)
    });
}

/// Apart from [`load`], because the buffer would stay in the task's memory, and on the stack below everything that runs later.
#[inline(never)]
fn load_config(flash: &mut impl NorFlash, board: &Board) -> Result<&'static StandardConfig, Rejection> {
    static CONFIG: StaticCell<StandardConfig> = StaticCell::new();
    let mut bytes = [0; CONFIG_LIMIT];
    if let Err(why) = read_config(flash, board, &mut bytes) {
        defmt::panic!("cannot read the configuration: {}", defmt::Display2Format(&why));
    }
    // Filled in place: the stack has no room for another one.
    let config = CONFIG.init_with(Config::new);
    config.read(&bytes).map_err(Rejection::Config)?;
    board.check(config.mode, config.update.is_some()).map_err(Rejection::Board)?;
    Ok(config)
}

#[cfg(feature = "serial")]
fn read_config(
    flash: &mut impl NorFlash,
    board: &Board,
    bytes: &mut [u8; CONFIG_LIMIT],
) -> Result<(), pkd_board::slots::SlotError> {
    if pkd_board::slots::load(flash, board.flash, bytes)? {
        defmt::warn!("of two configurations, the one that was made earlier was erased");
        say!("of two configurations, the one that was made earlier was erased");
    }
    Ok(())
}

#[cfg(not(feature = "serial"))]
fn read_config<S: NorFlash>(
    flash: &mut S,
    board: &Board,
    bytes: &mut [u8; CONFIG_LIMIT],
) -> Result<(), embedded_storage::nor_flash::NorFlashErrorKind> {
    use embedded_storage::nor_flash::NorFlashError as _;
    flash.read(board.flash.config, bytes).map_err(|why| why.kind())
}
