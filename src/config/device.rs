//! Where the model is wanted, as `inference.device` says it. Takes text, gives a wish; whether it can be had is not looked
//! at here. `[pure]`

/// Where the model is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InferenceDevice {
    /// The first GPU where everything for it is there, else the CPU.
    Auto,
    Cpu,
    /// This GPU, counted from 0, or nothing.
    Cuda(u8),
}

impl InferenceDevice {
    /// `cpu`, `auto`, `cuda:0`: one way of writing each.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            _ => {
                let ordinal = text.strip_prefix("cuda:")?;
                let plain =
                    ordinal.bytes().all(|b| b.is_ascii_digit()) && (ordinal == "0" || !ordinal.starts_with('0'));
                plain.then(|| ordinal.parse().ok())?.map(Self::Cuda)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_written_in_one_way() {
        assert_eq!(InferenceDevice::parse("cpu"), Some(InferenceDevice::Cpu));
        assert_eq!(InferenceDevice::parse("auto"), Some(InferenceDevice::Auto));
        assert_eq!(InferenceDevice::parse("cuda:0"), Some(InferenceDevice::Cuda(0)));
        assert_eq!(InferenceDevice::parse("cuda:255"), Some(InferenceDevice::Cuda(255)));
        let wrong = [
            "", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:1x", "cuda:256", "cuda:00", "CUDA:0", "cuda: 0",
            "Cpu",
        ];
        for text in wrong {
            assert_eq!(InferenceDevice::parse(text), None, "{text:?}");
        }
    }
}
