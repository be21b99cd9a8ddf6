// FrameCoding
