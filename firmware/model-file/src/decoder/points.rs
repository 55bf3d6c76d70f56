//! Points from heat maps: keypoints.

use serde::{Deserialize, Serialize};

use super::error::{DecoderError, MAX_LINKED_POINTS, MAX_LINKS, MAX_THINGS, offset, share};

/// Each channel of a map says where one point is. Without [`fields`](Self::fields) the network sees one
/// thing at a time, such as one person, and the point is in the channel's largest cell, of equals the first
/// by rows and columns (Xiao et al., "Simple Baselines for Human Pose Estimation", 2018).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointDecoder {
    /// The output with a channel for each point.
    #[serde(default = "heat_maps")]
    pub heat_maps: String,
    /// How the place between cells is found.
    #[serde(default)]
    pub refinement: Refinement,
    /// Where in its cell a point is, in cells from the upper left corner, `-1..=1`.
    #[serde(default)]
    pub offset: f32,
    /// The least score of a point that is there, `0..=1`.
    #[serde(default = "threshold")]
    pub threshold: f32,
    /// What tells which points belong to one thing, of a network that sees several at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
}

/// Part affinity fields (Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity
/// Fields", 2017): along a link from one point of a thing to another the map has the direction of the link.
///
/// Points are the cells of at least the threshold that are the largest of those at most two rows and
/// columns away, of equals the first. How well a link fits two points is the mean, over [`SAMPLES`](Self::SAMPLES) places between
/// them, of the field's part along the line from the first to the second. The best link first, points are
/// joined to things, unless their things have a point in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The output with two channels for each link, one behind the other.
    #[serde(default = "fields")]
    pub map: String,
    /// The two points of each link, counted from 0.
    pub links: Vec<[usize; 2]>,
    /// Which of a link's channels comes first.
    #[serde(default)]
    pub order: FieldOrder,
    /// The least fit of a link, `0..=1`.
    #[serde(default = "least_fit")]
    pub threshold: f32,
    /// The fewest points of a thing, at least 1.
    #[serde(default = "fewest")]
    pub fewest: usize,
    /// The most things of a picture, those with the surest points, and the most points of a kind.
    #[serde(default = "most_things")]
    pub most: usize,
}

/// Which of the two channels of a link comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldOrder {
    /// The part of the direction to the right, as `OpenPose` has it.
    #[default]
    RightFirst,
    /// The part of the direction downwards, as `trt_pose` has it.
    DownFirst,
}

/// How the place of a maximum between cells is found, along each axis by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refinement {
    /// It is that of the cell.
    None,
    /// A quarter of a cell towards the larger neighbour.
    #[default]
    Quarter,
    /// The vertex of the parabola through the cell and its neighbours.
    Parabola,
}

fn heat_maps() -> String {
    "heatmaps".into()
}

fn threshold() -> f32 {
    0.2
}

fn fields() -> String {
    "fields".into()
}

fn least_fit() -> f32 {
    0.1
}

fn fewest() -> usize {
    3
}

fn most_things() -> usize {
    20
}

impl Fields {
    /// Places at which a link is looked at.
    pub const SAMPLES: usize = 10;

    /// Whether things that have at most so many points can have enough.
    ///
    /// # Errors
    /// They cannot, or none is asked for.
    pub fn check_fewest(&self, most: usize) -> Result<(), DecoderError> {
        let found = self.fewest;
        if (1..=most).contains(&found) { Ok(()) } else { Err(DecoderError::Fewest { found, most }) }
    }

    fn validate(&self) -> Result<(), DecoderError> {
        share("fields.threshold", self.threshold)?;
        self.check_fewest(MAX_LINKED_POINTS)?;
        if !(1..=MAX_THINGS).contains(&self.most) {
            return Err(DecoderError::Things(self.most));
        }
        if !(1..=MAX_LINKS).contains(&self.links.len()) {
            return Err(DecoderError::Links(self.links.len()));
        }
        let is_wrong = |&&[a, b]: &&[usize; 2]| a == b || a.max(b) >= MAX_LINKED_POINTS;
        self.links.iter().find(is_wrong).map_or(Ok(()), |&[a, b]| Err(DecoderError::Link(a, b)))
    }
}

impl Default for PointDecoder {
    /// The map `heatmaps`, a quarter of a cell, as Simple Baselines.
    fn default() -> Self {
        Self {
            heat_maps: heat_maps(),
            refinement: Refinement::Quarter,
            offset: 0.0,
            threshold: threshold(),
            fields: None,
        }
    }
}

impl PointDecoder {
    /// Whether its numbers are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn validate(&self) -> Result<(), DecoderError> {
        share("threshold", self.threshold)?;
        offset("offset", self.offset)?;
        self.fields.as_ref().map_or(Ok(()), Fields::validate)
    }

    /// What `trt_pose` makes, and with it jetson-inference, of COCO's 17 points of a person and the neck:
    /// the outputs `cmap` and `paf`.
    pub fn trt_pose() -> Self {
        /// `skeleton` of its `human_pose.json`, counted from 0.
        const LINKS: [[usize; 2]; 21] = [
            [15, 13],
            [13, 11],
            [16, 14],
            [14, 12],
            [11, 12],
            [5, 7],
            [6, 8],
            [7, 9],
            [8, 10],
            [1, 2],
            [0, 1],
            [0, 2],
            [1, 3],
            [2, 4],
            [3, 5],
            [4, 6],
            [17, 0],
            [17, 5],
            [17, 6],
            [17, 11],
            [17, 12],
        ];
        Self {
            heat_maps: "cmap".into(),
            refinement: Refinement::Parabola,
            offset: 0.5,
            threshold: 0.1,
            fields: Some(Fields {
                map: "paf".into(),
                links: LINKS.to_vec(),
                order: FieldOrder::DownFirst,
                threshold: least_fit(),
                fewest: fewest(),
                most: most_things(),
            }),
        }
    }

    /// The outputs that it needs, by their names.
    pub fn needs(&self) -> Vec<String> {
        let fields = self.fields.as_ref().map(|fields| fields.map.clone());
        [self.heat_maps.clone()].into_iter().chain(fields).collect()
    }
}
