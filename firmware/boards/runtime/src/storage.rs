//! What a board keeps in flash.

use embedded_storage::nor_flash::{NorFlash, NorFlashError, ReadNorFlash};
use pkd_gateway::{CONFIG_LIMIT, Config, ConfigError, FlashFloors};
use static_cell::StaticCell;

use crate::{Indicators, StandardConfig, report_config_error};

/// Where a board's flash has what the gateway keeps, as offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub struct FlashLayout {
    /// The configuration, [`CONFIG_LIMIT`] bytes.
    pub config: u32,
    /// The floor's region, which starts with a sector.
    pub floor: u32,
    /// The size of the floor's region: at least two sectors.
    pub floor_bytes: u32,
}

/// What [`load`] read, and the indicators that it was given.
pub struct Stored<S, P> {
    /// The configuration.
    pub config: &'static StandardConfig,
    /// The floors.
    pub floors: FlashFloors<S>,
    /// The LED and the watchdog.
    pub indicators: P,
}

/// Reads configuration and floors from flash. Does not return if the configuration must not be used; see
/// [`report_config_error`]. Call it once.
///
/// # Panics
/// If the flash cannot be read, or if it is called again.
pub async fn load<S: NorFlash, P: Indicators>(
    mut flash: S,
    layout: FlashLayout,
    indicators: P,
) -> Stored<S, P> {
    let config = match load_config(&mut flash, layout.config) {
        Ok(config) => config,
        Err(why) => report_config_error(why, indicators).await,
    };
    defmt::info!("configuration OK: {} services, {} rules", config.services.len(), config.rules.len());
    let floors = match FlashFloors::open(flash, layout.floor, layout.floor_bytes) {
        Ok(floor) => floor,
        Err(why) => defmt::panic!("cannot read the floors: {}", defmt::Display2Format(&why)),
    };
    Stored { config, floors, indicators }
}

/// Apart from [`load`], because the buffer would stay in the task's memory, and on the stack below everything that runs later.
#[inline(never)]
fn load_config(flash: &mut impl ReadNorFlash, offset: u32) -> Result<&'static StandardConfig, ConfigError> {
    static CONFIG: StaticCell<StandardConfig> = StaticCell::new();
    let mut bytes = [0; CONFIG_LIMIT];
    if let Err(why) = flash.read(offset, &mut bytes) {
        defmt::panic!("cannot read the configuration: {}", defmt::Display2Format(&why.kind()));
    }
    // Filled in place: the stack has no room for another one.
    let config = CONFIG.init_with(Config::new);
    config.read(&bytes)?;
    Ok(config)
}
