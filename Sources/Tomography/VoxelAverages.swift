/// Averages over voxels from what Joseph's projector weighs, the values of a function that is linear between their centres.
///
/// Least squares on exact line integrals over elements of width d finds the object times sinc(f·d) / sinc²(f·p) at frequency f, where p is
/// the voxels' width: sharper than the object, edges overshoot. A picture holds the object times sinc(f·p). To second order in f, three
/// shares [a, 1 − 2a, a] along each axis lead from one to the other, a = (3 − (d/p)²) / 24.
enum VoxelAverages {
    /// a for elements and voxels of these widths at the axis of rotation, 0…1/8.
    static func share(element: Double, voxel: Double) -> Float {
        let ratio = element / voxel
        return Float(max(0, 3 - ratio * ratio) / 24)
    }

    /// Mixes each value with its neighbours along one axis of `count` values that are `stride` apart; borders are repeated.
    static func mix(_ values: inout [Float], count: Int, stride: Int, share: Float) {
        guard share > 0, count > 1 else { return }
        precondition(values.count % (count * stride) == 0)
        let copy = values, own = 1 - 2 * share
        values.withUnsafeMutableBufferPointer { out in copy.withUnsafeBufferPointer { given in
            guard let first = out.baseAddress, let source = given.baseAddress else { return }
            let target = Shared(first), values = SharedConst(source)
            inPieces(given.count) { for i in $0 {
                let k = i / stride % count, before = k > 0 ? i - stride : i, after = k + 1 < count ? i + stride : i
                target.pointer[i] = own * values.pointer[i] + share * (values.pointer[before] + values.pointer[after])
            } }
        } }
    }
}
