/* adamw.c: the optimiser on flat arrays. One thread and a fixed order: it costs some milliseconds a step
 * and its result can't depend on anything else. */
#include "train/train.h"
#include <float.h>
#include <math.h>

double grad_norm(const float *g, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)g[i] * (double)g[i];
    }
    return sqrt(sum);
}

double grad_scale(double norm, double most) {
    if (!(most > 0) || norm <= most) {
        return 1;
    }
    return most / norm;
}

bool adamw_step(float *restrict w, float *restrict m, float *restrict v, const float *restrict g, size_t n,
                const struct adamw *how) {
    const double beta1 = 0.9, beta2 = 0.999;
    const float epsilon = 1e-8f;
    const float b1 = (float)(1 - beta1), b2 = (float)beta2, one_b2 = (float)(1 - beta2);
    const float keep = (float)(1 - how->rate * how->decay);
    const float size = (float)(how->rate / (1 - pow(beta1, (double)how->step)));
    const float root = (float)(1 / sqrt(1 - pow(beta2, (double)how->step)));
    const float scale = (float)how->scale;
    int broken = 0;
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * scale;
        m[i] += (d - m[i]) * b1;
        v[i] = v[i] * b2 + d * d * one_b2;
        w[i] = w[i] * keep - size * m[i] / (sqrtf(v[i]) * root + epsilon);
        broken |= !(fabsf(w[i]) <= FLT_MAX);
    }
    return !broken;
}
