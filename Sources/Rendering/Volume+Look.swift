public import Imaging

/// How a volume looks where a scene leaves it open.
extension Volume {
    /// The window where rays cross the whole volume; `nil`: that of its slices. What a source of CT proposes suits slices: across a chest
    /// every ray meets bone, and the mean of a ray is air for the most part.
    func projectionWindow(_ fold: Fold) -> Window? {
        guard description.modality == "CT" else { return nil }
        return switch fold {
        case .maximum: Window(center: 450, width: 1500)
        case .mean: Window(center: -400, width: 1000)
        case .minimum: Window(center: -600, width: 1500)
        case .composite, .isosurface: nil
        }
    }

    /// The window it is drawn with: the one asked for, or that of its projections by this fold, or that of its slices.
    public func window(_ asked: Window?, projected fold: Fold?) -> Window { asked ?? fold.flatMap(projectionWindow) ?? defaultWindow }

    /// What a composite starts with: bone in Hounsfield units, else an opacity that rises through the default window, as values of other
    /// modalities have no fixed meaning. Files that name no modality count as CT where they hold air.
    public var defaultClassification: TransferFunction {
        let holdsAir = description.modality.isEmpty && (range.map { (-1100 ... -900).contains($0.lowerBound) } ?? false)
        return description.modality == "CT" || holdsAir ? .bone : .ramp(defaultWindow)
    }
}
