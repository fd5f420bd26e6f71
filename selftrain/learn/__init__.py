"""Models: backbones, augmentation, training, prediction, calibration."""
