/* list_policies.c - prints the registry of policies as JSON: what each is called, takes and learns
 * from. For tests of what else is said about them. */
#include "daemon/core/mixer.h"
#include "proto/json.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const kinds[] = {"number", "integer", "switch", "choice"};
static const char *const shapes[] = {"domains", "members", "graph", "names"};
static const char *const absents[] = {"skip", "hold", "decay"};

static void put_param(struct mx_jsonw *w, const struct mx_policy_param *p)
{
    mx_jsonw_object(w, NULL);
    mx_jsonw_string(w, "name", p->name);
    mx_jsonw_string(w, "kind", kinds[p->kind]);
    mx_jsonw_double(w, "default", p->fallback);
    mx_jsonw_double(w, "min", p->min);
    mx_jsonw_double(w, "max", p->max);
    mx_jsonw_string(w, "what", p->what);
    mx_jsonw_array(w, "choices");
    for (size_t i = 0; p->choices != NULL && p->choices[i] != NULL; i++) {
        mx_jsonw_string(w, NULL, p->choices[i]);
    }
    mx_jsonw_end_array(w);
    mx_jsonw_end_object(w);
}

static void put_table(struct mx_jsonw *w, const struct mx_policy_table *t)
{
    mx_jsonw_object(w, NULL);
    mx_jsonw_string(w, "name", t->name);
    mx_jsonw_string(w, "shape", shapes[t->shape]);
    mx_jsonw_bool(w, "required", t->required);
    mx_jsonw_double(w, "min", t->min);
    mx_jsonw_double(w, "max", t->max);
    mx_jsonw_string(w, "what", t->what);
    mx_jsonw_end_object(w);
}

static void put_policy(struct mx_jsonw *w, const struct mx_policy_ops *p)
{
    struct mx_guards g = mx_guards_default(p);

    mx_jsonw_object(w, NULL);
    mx_jsonw_string(w, "name", p->name);
    mx_jsonw_string(w, "what", p->what);
    mx_jsonw_bool(w, "train", p->uses_train);
    mx_jsonw_bool(w, "eval", p->uses_eval);
    mx_jsonw_bool(w, "reward", p->uses_reward);
    mx_jsonw_bool(w, "grad", p->uses_grad);
    mx_jsonw_bool(w, "attributes", p->uses_attributes);
    mx_jsonw_string(w, "absent", absents[g.absent]);
    mx_jsonw_double(w, "absent_decay", g.absent_decay);
    mx_jsonw_double(w, "loss_clip", g.loss_clip);
    mx_jsonw_double(w, "prior_decay", g.prior_decay);
    mx_jsonw_double(w, "stale_discount", g.stale_discount);
    mx_jsonw_double(w, "max_change", g.max_change);
    mx_jsonw_array(w, "params");
    for (size_t i = 0; i < p->n_params; i++) {
        put_param(w, &p->params[i]);
    }
    mx_jsonw_end_array(w);
    mx_jsonw_array(w, "tables");
    for (size_t i = 0; i < p->n_tables; i++) {
        put_table(w, &p->tables[i]);
    }
    mx_jsonw_end_array(w);
    mx_jsonw_array(w, "terms");
    for (uint32_t i = 0; i < p->n_terms; i++) {
        mx_jsonw_string(w, NULL, p->terms[i]);
    }
    mx_jsonw_end_array(w);
    mx_jsonw_end_object(w);
}

int main(void)
{
    struct mx_jsonw w;
    char *text;
    int rc;

    mx_jsonw_init(&w, (size_t)1 << 20);
    mx_jsonw_array(&w, NULL);
    for (size_t i = 0; mx_policy_at(i) != NULL; i++) {
        put_policy(&w, mx_policy_at(i));
    }
    mx_jsonw_end_array(&w);
    text = mx_jsonw_take(&w, NULL);
    rc = text != NULL && puts(text) >= 0 ? 0 : 1;
    free(text);
    return rc;
}
