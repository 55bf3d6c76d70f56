//! `--tiles` of the commands that find boxes.

use anyhow::{Context, Result, ensure};
use clap::Args;
use resight_runtime::Tiling;

use super::network;

/// How a picture is divided.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct TileArguments {
    /// Look at so many parts of each picture one by one, such as 2x2 (rows and columns), for small things
    /// in large pictures; of networks that find boxes. A thing that several tiles see has one box.
    #[arg(long, value_name = "RxC", value_parser = network::size)]
    tiles: Option<[usize; 2]>,
    /// The share of a tile that it has in common with the next, 0 to 0.5.
    #[arg(long, value_name = "SHARE", requires = "tiles", default_value_t = Tiling::OVERLAP)]
    tile_overlap: f32,
}

impl TileArguments {
    /// Refuses tiles for what finds no boxes.
    pub(crate) fn refuse(self) -> Result<()> {
        ensure!(self.tiles.is_none(), "--tiles is for networks that find boxes (`--task detect`)");
        Ok(())
    }

    /// The tiles, if there are any.
    pub(crate) fn tiling(self) -> Result<Option<Tiling>> {
        let Some([rows, columns]) = self.tiles else { return Ok(None) };
        let tiling = Tiling::new([rows, columns], self.tile_overlap);
        let tiling = tiling.with_context(|| {
            format!(
                "--tiles {rows}x{columns} --tile-overlap {}: 1 to 8 rows and columns, two tiles at least, and an overlap \
                 of 0 to 0.5 are possible",
                self.tile_overlap
            )
        })?;
        Ok(Some(tiling))
    }
}
